"""Draws the boxes of counted objects, and prepares the folders for such pictures."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from experiments import files

_LONGEST_NAME = 255  # bytes; no common file system allows more
_LEAST_SIDE = 512  # of an overlay; smaller images are enlarged
_SHARE_BELOW_WHITE = 99.0  # per cent of an overlay's values
_COLOUR = (255, 128, 0)


def overlay(image: np.ndarray, boxes: np.ndarray) -> Image.Image:
    """Draws the boxes [n, 4] of objects into an image [H, W, C], uint8.

    Dark images are brightened, and small ones enlarged.
    """
    height, width, _ = image.shape
    scale = max(1, _LEAST_SIDE // max(height, width))
    brightest = np.percentile(image, _SHARE_BELOW_WHITE) or image.max() or 1
    bright = np.rint(np.minimum(image * (255 / brightest), 255)).astype(np.uint8)
    rgb = np.broadcast_to(bright, (height, width, 3))
    picture = Image.fromarray(rgb.repeat(scale, axis=0).repeat(scale, axis=1))
    draw = ImageDraw.Draw(picture)
    for top, left, bottom, right in boxes * scale:
        draw.rectangle((left, top, right - 1, bottom - 1), outline=_COLOUR)
    return picture


def prepare_folders(
    out: pathlib.Path, names: Sequence[str], num_overlays: int, with_labels: bool
) -> None:
    """Makes empty folders for the pictures of a count of images with these names.

    A name that is too long for a file is a ValueError.
    """
    written = {"overlays": names[:num_overlays], "labels": names if with_labels else ()}
    for folder, those in written.items():
        for name in those:
            if len(os.fsencode(f"{name}.png")) > _LONGEST_NAME:
                raise ValueError(
                    f"{name}: this name and .png are too long for a file of {folder}:"
                    f" rename it, or leave {folder} out."
                )
        if (out / folder).exists():
            files.set_aside(out / folder, out / "earlier")
        if those:
            (out / folder).mkdir()
