"""Scenes of sprites on a canvas of one colour, in plain NumPy.

Scene number `index` of a split is a pure function of (seed, split, index), so the
order of generation, the number of processes and the machine change nothing. Only the
raw 64-bit words of NumPy's Philox generator are used: NumPy guarantees those across
versions, while it may change the methods of `numpy.random.Generator`.

`datasets.placing` decides where the objects are.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CANVAS = 64
"""Height and width of a scene, in pixels, where none is given."""

MAX_OBJECTS = 10
"""Number of object slots in an example; the slots from n on hold `EMPTY`."""

EMPTY = -1
"""Value of every per-object feature in the slots that hold no object."""

EXTRA_STREAM = 1_000
"""Streams from this number on are for `extra_split`; data sets use smaller ones."""

CLOSE = tuple(range(4, 21))
"""Distances between the objects of the close splits, in pixels; from 19 on, none of
those on a 64x64 canvas can touch."""


class Split(NamedTuple):
    """One split: its size, the possible numbers of objects, its random stream.

    Attributes:
        num_examples: number of its scenes.
        counts: numbers of objects, each with the same probability.
        stream: tells its random numbers from those of other splits.
        distances: of a close split, whose scenes have two objects: pixels between their
            centres, each with the same probability. Empty for all other splits.
    """

    num_examples: int
    counts: tuple[int, ...]
    stream: int
    distances: tuple[int, ...] = ()


class Layout(NamedTuple):
    """Objects of one scene in the order of their slots.

    Attributes:
        masks: one bool [h, w] mask per object.
        corners: [n, 2] int, (row, column) of each mask's top-left pixel.
        colours: [n, C] uint8.
        background: the colour of the canvas, 0 to 255.
    """

    masks: Sequence[np.ndarray]
    corners: np.ndarray
    colours: np.ndarray
    background: int = 0


class Picture(NamedTuple):
    """Image and ground truth of one scene; slots from n on hold `EMPTY`.

    Attributes:
        image: [canvas, canvas, C] uint8.
        segmentation: [canvas, canvas] uint8, 0 for background, i + 1 for the object in
            slot i.
        centre: [MAX_OBJECTS, 2] float32, (row, column) of the centre of the bounding
            box, in pixels; whole numbers are centres of pixels.
        box: [MAX_OBJECTS, 4] int32, (top, left, bottom, right) of the pixels, also of
            those that another object hides, bottom and right exclusive.
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

    def gaussian(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns nearly normal numbers of mean 0 and variance 1.

        Each is the sum of 12 uniform ones, in whole numbers, so that every machine
        makes the same.
        """
        words = self._bits.random_raw(3 * math.prod(shape)).astype(np.uint64)
        parts = words.reshape(-1, 3).view(np.uint16).astype(np.int64)
        return (parts.sum(axis=1) * 2 - 12 * 0xFFFF).reshape(shape) / 2**17


def permutation(size: int, *key: int) -> np.ndarray:
    """Returns a permutation [size] of range(size) that depends on the key alone."""
    words = np.random.Philox(np.random.SeedSequence(key)).random_raw(size)
    return np.argsort(words, kind="stable")


def extra_split(n: int, seed: int, num_examples: int = 0) -> Split:
    """Returns a split of scenes with n objects that are in no data set.

    Each n, 0 to MAX_OBJECTS, and each seed, not negative, has scenes of its own. The
    number of examples changes no scene.
    """
    if not 0 <= n <= MAX_OBJECTS or seed < 0:
        raise ValueError(
            f"n must be 0 to {MAX_OBJECTS} and the seed not negative: got {n}, {seed}."
        )
    return Split(num_examples, (n,), EXTRA_STREAM + seed * (MAX_OBJECTS + 1) + n)


def draw_all(layouts: Sequence[Layout], canvas: int = CANVAS) -> Picture:
    """Draws B scenes, at least one, and derives their ground truth.

    Returns:
        A `Picture` whose arrays have a leading axis B.
    """
    num_scenes, channels = len(layouts), layouts[0].colours.shape[1]
    counts = [len(layout.masks) for layout in layouts]
    scene = np.repeat(np.arange(num_scenes), counts)
    slot = np.concatenate([np.arange(n) for n in counts])
    corner = np.concatenate([layout.corners for layout in layouts])
    colour = np.concatenate([layout.colours for layout in layouts])
    backgrounds = np.array([layout.background for layout in layouts], np.uint8)
    image = np.empty((num_scenes, canvas, canvas, channels), np.uint8)
    image[:] = backgrounds[:, None, None, None]
    segmentation = np.zeros((num_scenes, canvas, canvas), np.uint8)
    box = np.full((num_scenes, MAX_OBJECTS, 4), EMPTY, np.int32)
    centre = np.full((num_scenes, MAX_OBJECTS, 2), EMPTY, np.float32)
    if len(scene):
        footprints = [footprint(mask) for layout in layouts for mask in layout.masks]
        lengths = [len(footprint.rows) for footprint in footprints]
        start = (scene * canvas + corner[:, 0]) * canvas + corner[:, 1]
        pixel = np.concatenate([footprint.rows for footprint in footprints]) * canvas
        pixel += np.concatenate([footprint.columns for footprint in footprints])
        pixel += np.repeat(start, lengths)
        image.reshape(-1, channels)[pixel] = np.repeat(colour, lengths, axis=0)
        segmentation.reshape(-1)[pixel] = np.repeat(slot + 1, lengths)
        boxes = np.tile(corner, 2) + [footprint.box for footprint in footprints]
        box[scene, slot] = boxes
        centre[scene, slot] = (boxes[:, :2] + boxes[:, 2:] - 1) / 2
    return Picture(image, segmentation, centre, box)


class Footprint(NamedTuple):
    """Holds the pixels of a mask, [P] rows and columns, and their bounding box.

    The box is (top, left, bottom, right), ends exclusive.
    """

    rows: np.ndarray
    columns: np.ndarray
    box: tuple[int, int, int, int]


def footprint(mask: np.ndarray) -> Footprint:
    """Finds where a bool mask [h, w] is set; a pixel or more must be set."""
    return _cached_footprint(mask.shape, mask.tobytes())


@functools.lru_cache(maxsize=16_384)  # more than the masks of any data set
def _cached_footprint(shape: tuple[int, int], content: bytes) -> Footprint:
    rows, columns = np.frombuffer(content, bool).reshape(shape).nonzero()
    box = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    return Footprint(rows, columns, box)


def examples(
    pictures: Picture, attributes: Sequence[dict[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Returns one example per scene: its picture's fields and its attributes."""
    rows = zip(*pictures, strict=True)
    return [
        {**dict(zip(Picture._fields, row, strict=True)), **own}
        for row, own in zip(rows, attributes, strict=True)
    ]


def crop(mask: np.ndarray) -> np.ndarray:
    """Returns a bool mask without its empty margins; a pixel or more must be set."""
    top, left, bottom, right = footprint(mask).box
    return mask[top:bottom, left:right]


def padded(values: Sequence[float], dtype: np.dtype) -> np.ndarray:
    """Returns [MAX_OBJECTS] of the values followed by `EMPTY`."""
    slots = np.full(MAX_OBJECTS, EMPTY, dtype)
    slots[: len(values)] = values
    return slots
