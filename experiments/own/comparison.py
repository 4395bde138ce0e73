"""Compares the objects that were counted with what a file says about them."""

from collections.abc import Iterator, Sequence

import numpy as np

from experiments.own.images import Truth
from lavae_jax import FoundObjects, segmentation


def describe(
    truth: Truth, found: Sequence[FoundObjects], size: tuple[int, int], tile: int = 0
) -> Iterator[str]:
    """Yields sentences that compare objects with the truth about N images.

    Args:
        truth: what the file says.
        found: the objects of each image.
        size: height and width of the images.
        tile: objects are also counted in squares of so many pixels, those at the right
            and lower border may be smaller; 0 leaves this out. An object belongs to the
            square that its centre lies in.
    """
    n = np.array([one.n for one in found])
    yield f"Counts: {_errors(truth.n, n, 'images')}."
    if tile and truth.centres is not None:
        true = per_tile(truth.centres, size, tile)
        counted = per_tile([one.yx for one in found], size, tile)
        errors = _errors(true, counted, "squares")
        yield f"Counts in squares of {tile} pixels: {errors}."
    if truth.labels is not None:
        labels = np.stack([labels_of(one, size) for one in found])
        matched = segmentation.matched_objects(truth.labels, labels).sum()
        recall, precision = (matched / max(a.sum(), 1) for a in (truth.n, n))
        yield (
            f"Objects of which half the pixels agree (IoU at least 0.5): {recall:.1%}"
            f" of the {truth.n.sum()} true ones, and {precision:.1%} of the"
            f" {n.sum()} that were found."
        )


def _errors(true, counted, what):
    right, error = np.mean(true == counted), np.abs(true - counted).mean()
    return f"{right:.1%} of {true.size} {what} right, off by {error:.2f} on average"


def per_tile(
    centres: Sequence[np.ndarray], size: tuple[int, int], tile: int
) -> np.ndarray:
    """Counts the centres of N images, [n, 2] each, in squares: [N, rows, columns]."""
    counts = np.zeros((len(centres), *(-(-side // tile) for side in size)), int)
    for index, of_image in enumerate(centres):
        rows, columns = (np.asarray(of_image).reshape(-1, 2) // tile).astype(int).T
        np.add.at(counts, (index, rows, columns), 1)
    return counts


def labels_of(found: FoundObjects, size: tuple[int, int]) -> np.ndarray:
    """Labels the pixels of an image with its objects, from 1 on, [H, W] int32."""
    if not found.n:
        return np.zeros(size, np.int32)
    active = np.ones((1, found.n), bool)
    return segmentation.segment(found.yx[None], active, found.mask[None], size)[0]
