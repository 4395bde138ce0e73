"""The 720 sprites of multi-dSprites: 3 shapes x 6 scales x 40 angles, binary masks."""

import functools
from typing import NamedTuple

import numpy as np

from datasets import scenes

SHAPES = ("square", "ellipse", "triangle")
SCALES = tuple(float(scale) for scale in np.linspace(0.6, 1.0, 6))
ANGLES = tuple(float(angle) for angle in 2 * np.pi * np.arange(40) / 40)
COLOURS = ("red", "green", "yellow", "blue", "magenta", "cyan", "white")

RGB = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(1, 8)], np.uint8) * 255
"""The colours' values, uint8 [7, 3], 0 or 255."""

RADIUS = 9.48
"""Radius in pixels, at scale 1, of the circle around the centre that every shape
touches and none leaves. It is a little under 19 / 2: at 9.5 some outlines pass exactly
through sampling points, where rounding errors of the machine would decide; at 9.48 none
comes closer than 1e-6 pixels."""

SMALL_RADIUS = 5.48
"""The same radius for the sprites of `bench`, which fit in 11 pixels."""

ELLIPSE_RATIO = 0.6
"""Short axis of the ellipse divided by its long axis."""

SAMPLES = 8
"""Sampling points per pixel and axis."""


class Sprite(NamedTuple):
    """A rendered sprite.

    Attributes:
        mask: bool [h, w], cropped to the pixels that are set; h, w <= `max_side`.
        shape: index into `SHAPES`.
        scale: index into `SCALES`.
        angle: index into `ANGLES`, which are radians, counter-clockwise in the picture.
    """

    mask: np.ndarray
    shape: int
    scale: int
    angle: int


def max_side(radius: float = RADIUS) -> int:
    """Returns the largest height and width of a sprite's bounding box, in pixels."""
    return 2 * round(radius) + 1


@functools.cache
def all_sprites(radius: float = RADIUS) -> tuple[Sprite, ...]:
    """Returns all 720 sprites; the angle varies fastest, the shape slowest."""
    return tuple(
        Sprite(render(shape, SCALES[scale], ANGLES[angle], radius), shape, scale, angle)
        for shape in range(len(SHAPES))
        for scale in range(len(SCALES))
        for angle in range(len(ANGLES))
    )


def render(
    shape: int, scale: float, angle: float, radius: float = RADIUS
) -> np.ndarray:
    """Renders one sprite.

    A pixel is set where at least half of its `SAMPLES`^2 sampling points lie inside
    the outline. The shape's centre (of the circle that touches it) is the centre of the
    middle pixel. Arguments are those of `signed_distance`.

    Returns:
        bool [h, w], cropped to the pixels that are set.
    """
    inside = signed_distance(shape, scale, angle, radius) < 0
    side = max_side(radius)
    blocks = inside.reshape(side, SAMPLES, side, SAMPLES)
    return scenes.crop(2 * blocks.sum((1, 3)) >= SAMPLES**2)


def signed_distance(
    shape: int, scale: float, angle: float, radius: float = RADIUS
) -> np.ndarray:
    """Measures on which side of the outline the sampling points lie.

    Unrotated, the square's sides and the ellipse's long axis are horizontal and the
    triangle, which is equilateral, points up.

    Args:
        shape: index into `SHAPES`.
        scale: size, 1 for the largest.
        angle: radians, counter-clockwise in the picture.
        radius: of the circle around the largest shapes, pixels.

    Returns:
        float64 [S * SAMPLES, S * SAMPLES] with S = `max_side`, in pixels: negative
        inside, positive outside (for the ellipse, in a metric in which it is a circle).
    """
    side = max_side(radius)
    radius = radius * scale
    steps = (np.arange(side * SAMPLES) + 0.5) / SAMPLES - side / 2
    x, y = steps[None, :], -steps[:, None]
    u = np.cos(angle) * x + np.sin(angle) * y
    v = -np.sin(angle) * x + np.cos(angle) * y
    if SHAPES[shape] == "square":
        return np.maximum(np.abs(u), np.abs(v)) - radius / np.sqrt(2)
    if SHAPES[shape] == "ellipse":
        return np.hypot(u, v / ELLIPSE_RATIO) - radius
    sides = (np.pi * (k / 1.5 - 0.5) for k in range(3))
    return (
        np.maximum.reduce([np.cos(side) * u + np.sin(side) * v for side in sides])
        - radius / 2
    )
