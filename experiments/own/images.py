"""Reads the user's own images as the models take them, of one size."""

import hashlib
import math
import pathlib
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from tqdm import auto as tqdm

from experiments.own import pictures

_Shape = tuple[int, int, int]

_SOON = 2.0  # seconds after which a progress bar appears
MIN_SIDE = 8
_MOST_OBJECTS = np.iinfo(np.int32).max
_WHITE = (65535, 255, 1)


class Values(NamedTuple):
    """How the values of pixels become 0 to 255, for a model of binary pixels or not.

    Attributes:
        threshold: values of at least this become 255 and others 0. Without one (0), the
            values must be 0 and one of 1, 255 and 65535.
        levels: for pixels that need not be binary, the values that become 0 and 255.
            Those between are rounded to whole numbers, and those beyond are cut.
        only_8_bit: whether images of other number types are refused, as nothing says
            which of their values are black and white.
    """

    threshold: float = 0
    levels: tuple[float, float] | None = None
    only_8_bit: bool = False

    def convert(self, name: str, image: np.ndarray) -> np.ndarray:
        """Converts an image [H, W, C] to uint8; `name` is for messages."""
        if self.levels is None:
            return binary(name, image, self.threshold)
        if self.only_8_bit and image.dtype != np.uint8:
            raise ValueError(
                f"{name} has pixels of type {image.dtype}, but this model was trained"
                " on 8-bit ones: convert the images, or give the values of black and of"
                " white (experiments.count has --levels)."
            )
        black, white = self.levels
        shares = (image.astype(np.float64) - black) / (white - black)
        if np.isnan(shares).any():
            raise ValueError(f"{name} has pixels that are no numbers: replace them.")
        return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


BINARY = Values()
"""For pixels that are binary already."""


def find_levels(
    path: str | pathlib.Path, most: int | None = None
) -> tuple[float, float]:
    """Finds the values that become 0 and 255 in images that need not be binary.

    They are 0 and 255 for 8-bit pixels, and the least and largest of all others. At
    most so many images of a file are looked at, from the start.
    """
    found = pictures.find(path, most)
    least, largest, are_8_bit = math.inf, -math.inf, set()
    for index in range(len(found.names)):
        image = found.read(index)
        are_8_bit.add(image.dtype == np.uint8)
        if np.isnan(image).any():
            raise ValueError(
                f"{found.names[index]} has pixels that are no numbers: replace them."
            )
        least, largest = min(least, image.min()), max(largest, image.max())
    if len(are_8_bit) > 1:
        raise ValueError(
            f"{path} has images of 8 bits and others: convert them to one number type,"
            " or give the values of black and of white (--config.data.levels=LOW,HIGH)."
        )
    if are_8_bit == {True}:
        return 0.0, 255.0
    if not -math.inf < least < largest < math.inf:
        raise ValueError(
            f"{path}: the values of pixels go from {least:g} to {largest:g}, but at"
            " least two different finite ones are expected."
        )
    return float(least), float(largest)


def load_images(
    path: str | pathlib.Path,
    image_shape: _Shape | None = None,
    values: Values = BINARY,
    most: int | None = None,
) -> np.ndarray:
    """Reads images of one size.

    Args:
        path: what `pictures.find` takes.
        image_shape: (H, W, C), the images that a model takes. None takes that of the
            first image.
        values: how the values of pixels become 0 to 255.
        most: how many images of a file of many are read at most, from the start.

    Returns:
        [N, H, W, C] uint8, N at least 1.

    Raises:
        ValueError: if anything else is found. The message says what was found, what
            was expected and what to do.
    """
    found = pictures.find(path, most)
    images, shape = None, image_shape
    progress = tqdm.tqdm(
        found.names,
        desc=pathlib.Path(path).name,
        unit=" images",
        leave=False,
        delay=_SOON,
    )
    for index, name in enumerate(progress):
        image = found.read(index)
        if shape is None:
            check_shape(shape := image.shape)
        if images is None:
            images = np.empty((len(found.names), *shape), np.uint8)
        if image.shape[:2] != tuple(shape[:2]):
            asked = "" if image_shape else f", as {found.names[0]} is"
            raise ValueError(
                f"{name} is {image.shape[0]} pixels high and {image.shape[1]} wide, but"
                f" {shape[0]} x {shape[1]} are expected{asked}: resize or crop it."
            )
        images[index] = values.convert(name, with_channels(name, image, shape[2]))
    return images


def with_channels(name: str, image: np.ndarray, channels: int) -> np.ndarray:
    """Returns an image [H, W, 1 or 3] with 1 or 3 channels: grey becomes RGB."""
    if channels == 3:
        return np.broadcast_to(image, (*image.shape[:2], 3))
    if (image[..., :1] != image[..., 1:]).any():
        raise ValueError(
            f"{name} is in colour, but this model takes grey images: convert it."
        )
    return image[..., :1]


def binary(name: str, image: np.ndarray, threshold: float = 0) -> np.ndarray:
    """Converts an image [H, W, C] to uint8 of 0 and 255.

    Values of at least the threshold become 255 and others 0. Without one (0), the
    values must be 0 and one of 1, 255 and 65535.
    """
    if image.dtype == np.float16:  # it can't hold 65535
        image = image.astype(np.float32)
    if threshold:
        if np.isnan(image).any():
            raise ValueError(f"{name} has pixels that are no numbers: replace them.")
        return np.where(image >= threshold, np.uint8(255), np.uint8(0))
    white = next((white for white in _WHITE if (image == white).any()), 1)
    expected = (image == 0) | (image == white)
    if not expected.all():
        index = tuple(int(i) for i in np.argwhere(~expected)[0])
        raise ValueError(
            f"{name} holds the value {image[index]} at {index} (row, column, channel),"
            " but only 0 and one of 1, 255 and 65535 are expected: binarise the images,"
            " for example with images > images.max() / 2, or give a threshold, from"
            " which on values are white (--config.data.threshold in training,"
            " --threshold otherwise)."
        )
    return (image > 0).astype(np.uint8) * np.uint8(255)


def fingerprint(images: np.ndarray) -> str:
    """Digests images, uint8, wherever and however they are stored."""
    digest = hashlib.sha256(repr(images.shape).encode())
    is_binary = ((images == 0) | (images == 255)).all()
    flat = images.reshape(len(images), -1)
    digest.update(np.packbits(flat > 0, axis=1) if is_binary else flat.tobytes())
    return digest.hexdigest()[:16]


class Truth(NamedTuple):
    """What a file says about the objects of its N images; None for what it lacks."""

    n: np.ndarray  # [N] int32
    centres: tuple[np.ndarray, ...] | None  # N times [n, 2], rows and columns
    labels: np.ndarray | None  # [N, H, W] int, 0 for the background

    def take(self, indices: np.ndarray) -> "Truth":
        """Returns what is said about some of the images."""
        centres = self.centres and tuple(self.centres[index] for index in indices)
        labels = None if self.labels is None else self.labels[indices]
        return Truth(self.n[indices], centres, labels)


def load_truth(
    path: str | pathlib.Path, shape: tuple[int, ...], most: int | None = None
) -> Truth | None:
    """Returns what a file of many images says about their objects, if anything.

    It may hold `masks`, whole numbers [N, H, W], 0 for the background; or `positions`,
    [N, M, 2] rows and columns, negative or NaN where there is no object; or `n`, [N].

    `shape` is that of the images, [N, H, W, C], of which at most so many were read.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in pictures.ARRAYS:
        return None
    arrays = pictures.read_arrays(path, "masks", "positions", "n", most=most)
    truths = []
    for name, (parse, kinds, wanted, meaning) in _TRUTHS.items():
        if name not in arrays:
            continue
        array, expected = arrays[name], [*shape[: len(wanted)]]
        fits = array.ndim == len(wanted) and array.dtype.kind in kinds
        if name == "positions":
            expected[1:] = [*array.shape[1:2], 2]
        fits = fits and list(array.shape) == expected and not _too_many(name, array)
        if not fits or _outside(name, array, shape):
            raise ValueError(
                f"{path.name}: {name} is {array.dtype}{list(array.shape)}, but"
                f" {meaning} are expected, [{', '.join(map(str, wanted))}] for images"
                f" {list(shape)}: write them so, or leave {name} out."
            )
        truths.append((name, parse(array)))
    for name, other in truths[1:]:
        first, truth = truths[0]
        if (wrong := np.flatnonzero(truth.n != other.n)).size:
            index = wrong[0]
            raise ValueError(
                f"{path.name}: image {index} has {truth.n[index]} objects by {first},"
                f" but {other.n[index]} by {name}: correct one of them."
            )
    return truths[0][1] if truths else None


def _too_many(name, array):
    return name != "positions" and not ((array >= 0) & (array <= _MOST_OBJECTS)).all()


def truth_of_masks(masks: np.ndarray) -> Truth:
    """Returns what labels [N, H, W], 0 for the background, say about objects."""
    # Labels may be any numbers; arrays as long as the largest one would not fit.
    values, labels = np.unique(masks, return_inverse=True)
    labels = labels.reshape(masks.shape).astype(np.int32) + (values[0] > 0)
    boxes = [[b for b in ndimage.find_objects(a) if b is not None] for a in labels]
    centres = [
        np.array([[(s.start + s.stop - 1) / 2 for s in box] for box in of_image])
        for of_image in boxes
    ]
    n = np.array([len(of_image) for of_image in boxes], np.int32)
    return Truth(n, tuple(a.reshape(-1, 2) for a in centres), labels)


def _outside(name, array, shape):
    """Tells whether positions lie outside images of a shape [N, H, W, C]."""
    if name != "positions":
        return False
    present = (array >= 0).all(axis=2)
    return not (array[present] < np.array(shape[1:3])).all()


def _from_positions(positions):
    present = (positions >= 0).all(axis=2)
    centres = tuple(yx[used] for yx, used in zip(positions, present, strict=True))
    return Truth(present.sum(axis=1).astype(np.int32), centres, None)


def _from_counts(n):
    return Truth(n.astype(np.int32), None, None)


_TRUTHS = {
    "masks": (truth_of_masks, "bui", "NHW", "whole numbers, a label per pixel,"),
    "positions": (_from_positions, "uif", "NM2", "rows and columns inside images"),
    "n": (_from_counts, "ui", "N", "numbers of objects from 0 on"),
}


def check_shape(shape: _Shape) -> None:
    """Raises a ValueError for the shape of images that no model can be built for."""
    if len(shape) != 3 or not all(isinstance(side, int) for side in shape):
        raise ValueError(
            "model.image_shape must be three whole numbers, (rows, columns, channels):"
            f" got {shape!r}."
        )
    height, width, channels = shape
    if channels not in (1, 3) or min(height, width) < MIN_SIDE:
        raise ValueError(
            f"images are {height} pixels high and {width} wide with {channels}"
            f" channels, but at least {MIN_SIDE} x {MIN_SIDE} with 1 (grey) or 3"
            " (RGB) are expected: arrays are (N, H, W) or (N, H, W, C)."
        )
