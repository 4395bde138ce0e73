"""Scenes of non-overlapping binary sprites on a black canvas, in plain NumPy.

Scene number `index` of a split is a pure function of (seed, split, index), so the
order of generation, the number of processes and the machine change nothing. Only the
raw 64-bit words of NumPy's Philox generator are used: NumPy guarantees those across
versions, while it may change the methods of `numpy.random.Generator`.

Law of a scene, given the number of objects n:

1. The sprites (and colours) are drawn independently and uniformly.
2. They are placed one after the other. The top-left corner of each is uniform over
   all positions at which its box lies inside the canvas and overlaps no box placed
   before. This is what rejecting overlapping positions without limit gives, at the
   cost of one draw.
3. If no free position is left, all boxes are taken off and step 2 starts again, with
   the same n and the same sprites. So n and the sprites stay exactly uniform.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CANVAS = 64
"""Height and width of a scene, in pixels."""

MAX_OBJECTS = 10
"""Number of object slots in an example; the slots from n on hold `EMPTY`."""

EMPTY = -1
"""Value of every per-object feature in the slots that hold no object."""

EXTRA_STREAM = 1_000
"""Streams from here on are those of `extra_split`; data sets use smaller ones."""

MAX_TRIES = 10_000
"""Tries to place the boxes of one scene before it counts as impossible. Seven of the
largest sprites need about 30."""


class Split(NamedTuple):
    """One split: its size, the possible numbers of objects, its random stream."""

    num_examples: int
    counts: tuple[int, ...]
    stream: int


class Layout(NamedTuple):
    """Objects of one scene in the order of their slots.

    Attributes:
      masks: one bool [h, w] mask per object.
      corners: [n, 2] int, (row, column) of each mask's top-left pixel.
      colours: [n, C] uint8, 0 or 255.
    """

    masks: Sequence[np.ndarray]
    corners: np.ndarray
    colours: np.ndarray


class Placement(NamedTuple):
    """Where the boxes of one scene are.

    Attributes:
      corners: int [n, 2], (row, column) of each box's top-left pixel.
      tries: how often the scene was begun, at least once.
    """

    corners: np.ndarray
    tries: int


class Picture(NamedTuple):
    """Image and ground truth of one scene; slots from n on hold `EMPTY`.

    Attributes:
      image: [64, 64, C] uint8, 0 or 255.
      segmentation: [64, 64] uint8, 0 for background, i + 1 for the object in slot i.
      centre: [MAX_OBJECTS, 2] float32, (row, column) of the centre of the bounding
        box, in pixels; whole numbers are centres of pixels.
      box: [MAX_OBJECTS, 4] int32, (top, left, bottom, right) of the visible pixels,
        bottom and right exclusive.
    """

    image: np.ndarray
    segmentation: np.ndarray
    centre: np.ndarray
    box: np.ndarray


class Draws:
    """Uniform integers from the raw words of Philox, one stream per scene."""

    def __init__(self, *key: int):
        """Opens the stream of a key of non-negative integers."""
        self._bits = np.random.Philox(np.random.SeedSequence(key))

    def below(self, bound: int) -> int:
        """Returns an integer uniform in [0, bound), up to a bias of bound / 2^64."""
        return (int(self._bits.random_raw()) * bound) >> 64


def permutation(size: int, *key: int) -> np.ndarray:
    """Returns a permutation [size] of range(size) that depends on the key alone."""
    words = np.random.Philox(np.random.SeedSequence(key)).random_raw(size)
    return np.argsort(words, kind="stable")


def extra_split(n: int, seed: int, num_examples: int = 0) -> Split:
    """Returns a split of scenes with n objects that are in no data set.

    Args:
      n: number of objects, 0 to MAX_OBJECTS; each n has scenes of its own.
      seed: not negative; another one gives other scenes.
      num_examples: its size, which changes no scene.
    """
    if not 0 <= n <= MAX_OBJECTS or seed < 0:
        raise ValueError(
            f"n must be 0 to {MAX_OBJECTS} and the seed not negative: got {n}, {seed}."
        )
    return Split(num_examples, (n,), EXTRA_STREAM + seed * (MAX_OBJECTS + 1) + n)


def place(
    draws: Draws, sizes: Sequence[tuple[int, int]], canvas: int = CANVAS
) -> Placement:
    """Places boxes one after the other, uniformly among the free positions.

    Args:
      draws: source of randomness.
      sizes: (height, width) of each box, in pixels.
      canvas: height and width of the canvas, in pixels.

    Returns:
      Where the boxes are; no two of them overlap.

    Raises:
      ValueError: if the boxes do not fit even after `MAX_TRIES` tries.
    """
    for tries in range(1, MAX_TRIES + 1):
        corners: list[tuple[int, int]] = []
        for i, size in enumerate(sizes):
            free = free_positions(corners, sizes[:i], size, canvas).ravel().nonzero()[0]
            if not free.size:
                break
            position = int(free[draws.below(free.size)])
            corners.append(divmod(position, canvas - size[1] + 1))
        else:
            return Placement(np.array(corners, np.int64).reshape(-1, 2), tries)
    raise ValueError(
        f"{len(sizes)} boxes of (height, width) {list(sizes)} did not fit on a "
        f"{canvas}x{canvas} canvas without overlap in {MAX_TRIES} tries; use fewer "
        "or smaller ones."
    )


def free_positions(
    corners: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    canvas: int = CANVAS,
) -> np.ndarray:
    """Marks where a further box may go.

    Args:
      corners: (row, column) of the boxes already placed.
      sizes: (height, width) of the boxes already placed.
      size: (height, width) of the box to place.
      canvas: height and width of the canvas, in pixels.

    Returns:
      bool [canvas - height + 1, canvas - width + 1], true where a box with this
      top-left pixel overlaps no other.
    """
    height, width = size
    free = np.ones((canvas - height + 1, canvas - width + 1), bool)
    for (top, left), (h, w) in zip(corners, sizes, strict=True):
        free[
            max(top - height + 1, 0) : top + h, max(left - width + 1, 0) : left + w
        ] = False
    return free


def draw(layout: Layout) -> Picture:
    """Draws a scene and derives its ground truth. See `Picture`."""
    n, channels = layout.colours.shape
    image = np.zeros((CANVAS, CANVAS, channels), np.uint8)
    segmentation = np.zeros((CANVAS, CANVAS), np.uint8)
    box = np.full((MAX_OBJECTS, 4), EMPTY, np.int32)
    centre = np.full((MAX_OBJECTS, 2), EMPTY, np.float32)
    objects = zip(layout.masks, layout.corners.tolist(), layout.colours, strict=True)
    for i, (mask, (top, left), colour) in enumerate(objects):
        height, width = mask.shape
        window = slice(top, top + height), slice(left, left + width)
        image[window][mask] = colour
        segmentation[window][mask] = i + 1
        box[i] = _tight_box(mask.shape, mask.tobytes())
    box[:n] += np.tile(layout.corners, 2).astype(np.int32)
    centre[:n] = (box[:n, :2] + box[:n, 2:] - 1) / 2
    return Picture(image, segmentation, centre, box)


def tight_box(mask: np.ndarray) -> np.ndarray:
    """Returns int [4], (top, left, bottom, right) of a mask's pixels, ends exclusive.

    Args:
      mask: bool [h, w] with at least one pixel set.
    """
    return np.array(_tight_box(mask.shape, mask.tobytes()))


@functools.lru_cache(maxsize=16_384)  # more than the masks of any data set
def _tight_box(shape: tuple[int, int], content: bytes) -> tuple[int, int, int, int]:
    """Computes `tight_box` of a mask, whose `tobytes` is the content."""
    mask = np.frombuffer(content, bool).reshape(shape)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def crop(mask: np.ndarray) -> np.ndarray:
    """Returns a bool mask, of which a pixel or more is set, without empty margins."""
    top, left, bottom, right = tight_box(mask)
    return mask[top:bottom, left:right]


def padded(values: Sequence[float], dtype: np.dtype) -> np.ndarray:
    """Returns [MAX_OBJECTS] of the values followed by `EMPTY`."""
    slots = np.full(MAX_OBJECTS, EMPTY, dtype)
    slots[: len(values)] = values
    return slots
