"""Cuts small images to train on from large ones, even from a single one."""

import pathlib
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from experiments.own import images as own_images
from experiments.own import pictures

_SEED = 5

_ZOOM, _BRIGHTNESS = 1.15, 1.4
"""The largest factors on the size and the values of crops that vary. The least ones are
their inverses."""


class Crops(NamedTuple):
    """How small images are cut from large ones.

    Attributes:
        side: of each square crop, pixels.
        number: of crops in all.
        turned: whether crops are turned by 0, 90, 180 or 270° and mirrored at random.
        varied: whether they are also turned by any angle, scaled and made brighter or
            darker, at random; for pixels of many values.
    """

    side: int
    number: int
    turned: bool = False
    varied: bool = False


def load(
    path: str | pathlib.Path,
    crops: Crops,
    channels: int | None = None,
    values: own_images.Values = own_images.BINARY,
) -> np.ndarray:
    """Cuts crops from images of any size, at uniform places, the same ones every time.

    Args:
        path: what `pictures.find` takes.
        crops: how crops are cut.
        channels: 1 or 3; None takes the number of the first image.
        values: how the values of pixels become 0 to 255.

    Returns:
        [number, side, side, C] uint8. What can't be cut is a ValueError.
    """
    found, side = pictures.find(path), crops.side
    images = []
    for index, name in enumerate(found.names):
        image = found.read(index)
        channels = channels or image.shape[2]
        if min(image.shape[:2]) < side:
            raise ValueError(
                f"{name} is {image.shape[0]} x {image.shape[1]} pixels, smaller than"
                f" the crops of {side} x {side}: lower data.crop, or leave it out."
            )
        images.append(
            values.convert(name, own_images.with_channels(name, image, channels))
        )
    own_images.check_shape((side, side, channels))
    rng = np.random.default_rng(_SEED)
    rooms = np.array([image.shape[:2] for image in images]) - side + 1
    number = rooms.prod(axis=1)
    chosen = rng.choice(len(images), crops.number, p=number / number.sum())
    corners = (rng.uniform(size=(crops.number, 2)) * rooms[chosen]).astype(int)
    result = np.empty((crops.number, side, side, channels), np.uint8)
    for index, (image, corner) in enumerate(zip(chosen, corners, strict=True)):
        cut = _vary if crops.varied else _cut
        crop = cut(images[image], corner, side, rng)
        if crops.turned:
            crop = np.rot90(crop, rng.integers(4))[:, :: rng.choice((-1, 1))]
        result[index] = crop
    return result


def _cut(image, corner, side, rng):
    """Cuts a square [side, side, C] whose upper left pixel is `corner`."""
    del rng
    row, column = corner
    return image[row : row + side, column : column + side]


def _vary(image, corner, side, rng):
    """Cuts a square with the same centre, turned, scaled, and brighter or darker.

    Beyond its border the image is mirrored.
    """
    angle = rng.uniform(0, 2 * np.pi)
    zoom, brightness = np.exp(rng.uniform(-1, 1, 2) * np.log((_ZOOM, _BRIGHTNESS)))
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    middle = (side - 1) / 2
    matrix = turn / zoom
    offset = corner + middle - matrix @ np.full(2, middle)
    channels = [
        ndimage.affine_transform(
            channel.astype(np.float32), matrix, offset, (side, side), mode="mirror"
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.clip(np.rint(brightness * np.stack(channels, axis=-1)), 0, 255)
