"""The pieces of Tetris and their colours. Workers import this: it needs only NumPy."""

import functools

import numpy as np

BLOCK, CANVAS = 5, 35
"""Sides of a block and of a scene, in pixels."""

_SHAPES = ("1111", "11 11", "111 010", "110 011", "011 110", "100 111", "001 111")

COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan")

RGB = 255 * np.array(
    [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)], np.uint8
)
"""The colours' values, uint8 [6, 3], 0 or 255."""


@functools.cache
def masks() -> tuple[np.ndarray, ...]:
    """Returns the masks, bool [h, w], of all pieces, 19 with their orientations."""
    found = []
    for shape in _SHAPES:
        blocks = np.array([[b == "1" for b in row] for row in shape.split()])
        for turns in range(4):
            turned = np.rot90(blocks, turns)
            if not any(np.array_equal(turned, other) for other in found):
                found.append(turned)
    return tuple(np.kron(blocks, np.ones((BLOCK, BLOCK), bool)) for blocks in found)
