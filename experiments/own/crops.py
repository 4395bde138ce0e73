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
    splines = list(map(_spline, images)) if crops.varied else []
    result = np.empty((crops.number, side, side, channels), np.uint8)
    for index, (row, column) in enumerate(corners):
        if crops.varied:
            crop = _vary(splines[chosen[index]], (row, column), side, rng)
        else:
            crop = images[chosen[index]][row : row + side, column : column + side]
        if crops.turned:
            crop = np.rot90(crop, rng.integers(4))[:, :: rng.choice((-1, 1))]
        result[index] = crop
    return result


def _spline(image):
    """Computes what a cubic interpolation of [H, W, C] needs: float64 [C, H, W].

    In float64, all machines round the interpolated values alike.
    """
    channels = np.moveaxis(image, -1, 0)
    return np.stack([ndimage.spline_filter(one, mode="mirror") for one in channels])


def _vary(spline, corner, side, rng):
    """Cuts a square with an upper left `corner`, turned, scaled, brighter or darker.

    Its centre stays. Beyond its border the image is mirrored. Values above 255 are cut.
    """
    angle = rng.uniform(0, 2 * np.pi)
    zoom, brightness = np.exp(rng.uniform(-1, 1, 2) * np.log((_ZOOM, _BRIGHTNESS)))
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    middle = (side - 1) / 2
    matrix = turn / zoom
    offset = np.array(corner) + middle - matrix @ np.full(2, middle)
    options = dict(output_shape=(side, side), mode="mirror", prefilter=False)
    channels = [
        ndimage.affine_transform(one, matrix, offset, **options) for one in spline
    ]
    return np.clip(np.rint(brightness * np.stack(channels, axis=-1)), 0, 255)
