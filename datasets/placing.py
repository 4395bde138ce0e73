"""Draws the objects of scenes and where they are, in plain NumPy.

Law of a scene, given the number of objects n:

1. The sprites (and colours) are drawn independently and uniformly.
2. They are placed one after the other. The top-left corner of each is uniform over
   all positions at which its box lies inside the canvas and overlaps no box placed
   before. This is what rejecting overlapping positions without limit gives, at the
   cost of one draw.
3. If no free position is left, all boxes are taken off and step 2 starts again, with
   the same n and the same sprites. So n and the sprites stay exactly uniform.

Scenes of a close split show two objects that may touch or overlap, see `place_close`.
Objects of other data sets hide each other, see `place_freely`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from datasets import scenes

MAX_TRIES = 10_000
"""Tries to place the boxes of one scene before it counts as impossible. Seven of the
largest sprites need about 30."""


class Placement(NamedTuple):
    """Holds the places of the boxes of one scene.

    Attributes:
        corners: int [n, 2], (row, column) of each box's top-left pixel.
        num_free: how many positions were free for each box, n numbers.
        tries: how often the scene was begun, at least once.
    """

    corners: np.ndarray
    num_free: list[int]
    tries: int


def place(
    draws: scenes.Draws, sizes: Sequence[tuple[int, int]], canvas: int = scenes.CANVAS
) -> Placement:
    """Places boxes of (height, width) in pixels one after the other, without overlap.

    Each is placed uniformly among the free positions.

    Raises:
        ValueError: if the boxes do not fit even after `MAX_TRIES` tries.
    """
    for tries in range(1, MAX_TRIES + 1):
        corners: list[tuple[int, int]] = []
        num_free: list[int] = []
        for i, size in enumerate(sizes):
            free = np.flatnonzero(free_positions(corners, sizes[:i], size, canvas))
            if not free.size:
                break
            position = int(free[draws.below(free.size)])
            corners.append(divmod(position, canvas - size[1] + 1))
            num_free.append(free.size)
        else:
            placed = np.array(corners, np.int64).reshape(-1, 2)
            return Placement(placed, num_free, tries)
    raise ValueError(
        f"{len(sizes)} boxes of (height, width) {list(sizes)} did not fit on a "
        f"{canvas}x{canvas} canvas without overlap in {MAX_TRIES} tries; use fewer "
        "or smaller ones."
    )


def place_close(
    draws: scenes.Draws,
    masks: Sequence[np.ndarray],
    distance: int,
    canvas: int = scenes.CANVAS,
) -> np.ndarray | None:
    """Places two objects whose centres are `distance` pixels apart.

    The offset from the first centre to the second is uniform over the whole numbers of
    rows and columns whose length rounds to the distance, and the place of the pair is
    uniform on the canvas. Centres are of the masks, bool [h, w], to half a pixel.

    Returns:
        The corners [2, 2] of a `Placement`; None if the pair does not fit or the second
        object would hide more than half of the first one.
    """
    first, second = masks
    offsets = _offsets(distance)
    offset = offsets[draws.below(len(offsets))]
    corner = offset + (np.array(first.shape) - second.shape) // 2
    least = np.minimum(corner, 0)
    room = canvas + 1 + least - np.maximum(corner + second.shape, first.shape)
    if (room < 1).any():
        return None
    start = np.array([draws.below(int(size)) for size in room]) - least
    corners = np.stack([start, start + corner])
    below, above = map(_pixels, masks, corners)
    return corners if np.isin(below, above).mean() <= 0.5 else None


def place_freely(
    draws: scenes.Draws,
    masks: Sequence[np.ndarray],
    canvas: int = scenes.CANVAS,
    most_hidden: float = 0.5,
) -> np.ndarray:
    """Places objects anywhere on the canvas; later ones hide earlier ones.

    Every place is uniform. Where more than the share `most_hidden` of an object's
    pixels would be hidden, all are placed again.

    Returns:
        The corners [n, 2] of a `Placement`.
    """
    for _ in range(MAX_TRIES):
        corners = np.array(
            [[draws.below(canvas + 1 - side) for side in mask.shape] for mask in masks],
            np.int64,
        ).reshape(-1, 2)
        pixels = [_pixels(*pair) for pair in zip(masks, corners, strict=True)]
        if all(
            np.isin(one, np.concatenate(pixels[i + 1 :])).mean() <= most_hidden
            for i, one in enumerate(pixels[:-1])
        ):
            return corners
    raise ValueError(
        f"{len(masks)} objects, each hidden by at most {most_hidden:.0%}, were not"
        f" placed in {MAX_TRIES} tries on a {canvas}x{canvas} canvas."
    )


@functools.cache
def _offsets(distance: int) -> np.ndarray:
    """Lists the whole offsets [K, 2] whose length rounds to a distance."""
    grid = np.mgrid[-distance - 1 : distance + 2, -distance - 1 : distance + 2]
    offsets = grid.reshape(2, -1).T
    return offsets[np.floor(np.hypot(*offsets.T) + 0.5) == distance]


def _pixels(mask: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Numbers the pixels of a canvas that a mask covers."""
    covered = scenes.footprint(mask)
    return (covered.rows + corner[0]) * 2**16 + covered.columns + corner[1]


def draw_objects(
    draws: scenes.Draws,
    split: scenes.Split,
    draw_some: Callable[[int], tuple[Any, Sequence[np.ndarray]]],
    canvas: int = scenes.CANVAS,
) -> tuple[Any, np.ndarray]:
    """Draws the objects of a scene and where they are.

    `draw_some` draws n objects and returns them and their masks, bool [h, w].

    Returns:
        The objects, and the corners of a `Placement`.
    """
    n = split.counts[draws.below(len(split.counts))]
    if not split.distances:
        objects, masks = draw_some(n)
        return objects, place(draws, [mask.shape for mask in masks], canvas).corners
    distance = split.distances[draws.below(len(split.distances))]
    for _ in range(MAX_TRIES):
        objects, masks = draw_some(n)
        corners = place_close(draws, masks, distance, canvas)
        if corners is not None:
            return objects, corners
    raise ValueError(
        f"no two objects with centres {distance} pixels apart, both at least half"
        f" visible, were found in {MAX_TRIES} tries on a {canvas}x{canvas} canvas."
    )


def free_positions(
    corners: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    canvas: int = scenes.CANVAS,
) -> np.ndarray:
    """Marks where a further box of `size`, (height, width), may go.

    `corners`, (row, column), and `sizes` are those of the boxes already placed.

    Returns:
        bool [canvas - height + 1, canvas - width + 1], true where a box with this
        top-left pixel overlaps no other.
    """
    height, width = size
    free = np.ones((canvas - height + 1, canvas - width + 1), bool)
    for (top, left), (h, w) in zip(corners, sizes, strict=True):
        rows = slice(max(top - height + 1, 0), top + h)
        columns = slice(max(left - width + 1, 0), left + w)
        free[rows, columns] = False
    return free
