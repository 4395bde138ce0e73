"""Compares the objects that were counted with what a file says about them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from experiments.own.images import Truth
from lavae_jax import FoundObjects, segmentation


class Found(NamedTuple):
    """The objects of N images."""

    n: np.ndarray  # [N]
    centres: Sequence[np.ndarray]  # N times [n, 2], rows and columns
    labels: np.ndarray  # [N, H, W], 0 for the background


def found_in(objects: Iterable[FoundObjects], size: tuple[int, int]) -> Found:
    """Collects what `find_objects` found in N images of one size (H, W)."""
    parts = [(one.n, one.centre, labels_of(one, size)) for one in objects]
    n, centres, labels = zip(*parts, strict=True)
    return Found(np.array(n), centres, np.stack(labels))


def describe(truth: Truth, found: Found, tile: int = 0) -> Iterator[str]:
    """Yields sentences that compare objects with the truth about N images.

    With a `tile`, objects are also counted in squares of so many pixels, of which those
    at the right and lower border may be smaller. An object belongs to the square that
    its centre lies in.
    """
    yield f"Counts: {_errors(truth.n, found.n, 'images')}."
    size = found.labels.shape[1:]
    if tile and truth.centres is not None:
        both = (per_tile(one.centres, size, tile) for one in (truth, found))
        yield f"Counts in squares of {tile} pixels: {_errors(*both, 'squares')}."
    if truth.labels is not None:
        matched = segmentation.matched_objects(truth.labels, found.labels).sum()
        recall, precision = (matched / max(one.n.sum(), 1) for one in (truth, found))
        yield (
            f"Objects of which half the pixels agree (IoU at least 0.5): {recall:.1%}"
            f" of the {truth.n.sum()} true ones, and {precision:.1%} of the"
            f" {found.n.sum()} that were found."
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
