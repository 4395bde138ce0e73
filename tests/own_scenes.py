"""These helpers make images and files as users bring them: squares never touch."""

import math

import numpy as np
from PIL import Image


def squares(num_images, image_shape, side=7, most=3, seed=0):
    """Makes scenes of up to `most` squares of one side, each in a colour of its own.

    Returns:
        Images [N, H, W, C], uint8 of 0 and 255, and the numbers of squares [N]: scene i
        has i mod (`most` + 1) of them.
    """
    rng = np.random.default_rng(seed)
    height, width, channels = image_shape
    cell = side + 2
    rows, columns = height // cell, width // cell
    images = np.zeros((num_images, *image_shape), np.uint8)
    n = (np.arange(num_images) % (most + 1)).astype(np.int32)
    for image, count in zip(images, n, strict=True):
        for index in rng.choice(rows * columns, count, replace=False):
            row, column = divmod(int(index), columns)
            top, left = cell * row + rng.integers(2), cell * column + rng.integers(2)
            bits = rng.integers(1, 1 << channels) >> np.arange(channels) & 1
            image[top : top + side, left : left + side] = 255 * bits
    return images, n


def save_pngs(folder, images, prefix=""):
    """Writes images [N, H, W, C] as files named in their order; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = math.ceil(math.log10(len(images) + 1))
    for index, image in enumerate(images):
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        Image.fromarray(pixels).save(folder / f"{prefix}{index:0{digits}d}.png")
    return folder
