"""Prepares a real image of nuclei, and counts them in ways that need no model.

python -m experiments.nuclei --image=img2d.tif --masks=mask2d.tif --out=DIR

The image, 512×512 pixels with 125 nuclei, comes with the package stardist, in the
folder `stardist/data/images` of its wheel (Schmidt et al., "Cell Detection with
Star-convex Polygons", 2018). At half the resolution, DIR gets

- `train.npz`, the upper half, for `configs/nuclei.py`;
- `test.npz`, the lower half and its masks, for `experiments.count --tile=32`.

The command also prints how well two counters without learning do on the lower half: the
connected components above Otsu's threshold, and watersheds of a distance transform. The
threshold, smoothing and distance of seeds of the latter are those that are best on the
upper half.
"""

import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy import ndimage
from skimage import feature, filters, morphology, segmentation

from experiments import cli
from experiments.own import comparison, pictures
from experiments.own.images import truth_of_masks

_TILE = 64  # pixels of the whole resolution
_SPECK = 30  # pixels of what is too small for a nucleus
_SIGMAS, _SEED_DISTANCES = (1.0, 1.5, 2.0, 3.0), (4, 6, 8, 10, 12)
_THRESHOLDS = ("otsu", "li", "triangle", "yen", "isodata", "local")


class Half(NamedTuple):
    """Half of the image, [H, W], and its labels, [H, W], 0 for the background."""

    image: np.ndarray
    labels: np.ndarray


def halves(image: np.ndarray, labels: np.ndarray) -> tuple[Half, Half]:
    """Cuts an image [H, W] and its labels into the upper and the lower half."""
    middle = len(image) // 2
    upper, lower = slice(0, middle), slice(middle, 2 * middle)
    return Half(image[upper], labels[upper]), Half(image[lower], labels[lower])


def shrink(half: Half) -> Half:
    """Halves the resolution: pixels are means of four, and labels one of four."""
    height, width = (side // 2 for side in half.image.shape)
    image = half.image[: 2 * height, : 2 * width].astype(np.float64)
    means = image.reshape(height, 2, width, 2).mean(axis=(1, 3))
    labels = half.labels[: 2 * height : 2, : 2 * width : 2]
    return Half(np.rint(means).astype(half.image.dtype), labels)


def components(image: np.ndarray) -> np.ndarray:
    """Labels the connected groups of pixels above Otsu's threshold, [H, W]."""
    return ndimage.label(image > filters.threshold_otsu(image), np.ones((3, 3)))[0]


def watersheds(
    image: np.ndarray, threshold: str, sigma: float, distance: int
) -> np.ndarray:
    """Labels basins of the distance transform of a smoothed image above a threshold.

    Args:
        image: [H, W].
        threshold: the name of a method of `skimage.filters`.
        sigma: of the smoothing, pixels.
        distance: the least one between the seeds of two basins, pixels.
    """
    smooth = filters.gaussian(image.astype(np.float64), sigma)
    if threshold == "local":
        level = filters.threshold_local(smooth, 51, offset=-smooth.std() / 10)
    else:
        level = getattr(filters, f"threshold_{threshold}")(smooth)
    mask = morphology.remove_small_objects(smooth > level, max_size=_SPECK)
    depth = filters.gaussian(ndimage.distance_transform_edt(mask), 1.0)
    seeds = np.zeros(image.shape, int)
    found = feature.peak_local_max(
        depth, min_distance=distance, labels=mask.astype(int)
    )
    seeds[tuple(found.T)] = np.arange(1, len(found) + 1)
    return segmentation.watershed(-depth, seeds, mask=mask)


def tuned(upper: Half) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the watersheds with the settings that count the upper half best."""
    true = _per_tile(upper.labels)

    def error(settings):
        labels = watersheds(upper.image, *settings)
        return np.abs(_per_tile(labels) - true).mean()

    grid = itertools.product(_THRESHOLDS, _SIGMAS, _SEED_DISTANCES)
    best = min(grid, key=error)
    print("Best on the upper half: threshold {}, sigma {}, distance {}.".format(*best))
    return lambda image: watersheds(image, *best)


def _per_tile(labels):
    truth = truth_of_masks(labels[None])
    return comparison.per_tile(truth.centres, labels.shape, _TILE)


def compare(name: str, labels: np.ndarray, half: Half) -> Iterator[str]:
    """Yields sentences on how well labels [H, W] agree with those of a half."""
    found = truth_of_masks(labels[None])
    true = truth_of_masks(half.labels[None])
    yield f"{name}:"
    yield from comparison.describe(
        true, comparison.Found(found.n, found.centres, labels[None]), _TILE
    )


def main() -> None:
    """Prepares the image that the command line names."""
    values, out = flags.FLAGS, pathlib.Path(flags.FLAGS.out)
    with cli.user_errors(ValueError, OSError):
        image, labels = (
            pictures.read_picture(pathlib.Path(path).expanduser())
            for path in (values.image, values.masks)
        )
        is_grey = image.shape[2] == 1 and image.dtype.kind == "u"
        if image.shape != labels.shape or not is_grey:
            raise cli.UserError(
                f"the image is {image.dtype}{list(image.shape)} and the masks are"
                f" {labels.dtype}{list(labels.shape)}: both need the same pixels, in"
                " grey, of whole numbers."
            )
        image, labels = image[..., 0], labels[..., 0]
        out.mkdir(parents=True, exist_ok=True)
        upper, lower = halves(image, labels)
        np.savez(out / "train.npz", images=shrink(upper).image[None])
        small = shrink(lower)
        np.savez(out / "test.npz", images=small.image[None], masks=small.labels[None])
    print(f"Wrote train.npz and test.npz to {out}.")
    counters = {"Otsu and connected components": components, "Watersheds": tuned(upper)}
    for name, counter in counters.items():
        print(*compare(name, counter(lower.image), lower), sep="\n  ")


def _define_flags():
    flags.DEFINE_string("image", None, "The image, img2d.tif.")
    flags.DEFINE_string("masks", None, "The labels of its nuclei, mask2d.tif.")
    flags.DEFINE_string("out", "runs/nuclei", "The folder for the two files.")
    flags.mark_flags_as_required(["image", "masks"])


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
