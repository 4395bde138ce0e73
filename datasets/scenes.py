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

Scenes of a close split show two objects that may touch or overlap, see `place_close`.
Objects of other data sets hide each other, see `place_freely`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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

MAX_TRIES = 10_000
"""Tries to place the boxes of one scene before it counts as impossible. Seven of the
largest sprites need about 30."""


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


def place(
    draws: Draws, sizes: Sequence[tuple[int, int]], canvas: int = CANVAS
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
    draws: Draws, masks: Sequence[np.ndarray], distance: int, canvas: int = CANVAS
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
    draws: Draws, masks: Sequence[np.ndarray], canvas: int = CANVAS
) -> np.ndarray:
    """Places objects anywhere on the canvas; later ones hide earlier ones.

    Every place is uniform. Where an object would be hidden by more than half, all are
    placed again.

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
            np.isin(one, np.concatenate(pixels[i + 1 :])).mean() <= 0.5
            for i, one in enumerate(pixels[:-1])
        ):
            return corners
    raise ValueError(
        f"{len(masks)} objects, each at least half visible, were not placed in"
        f" {MAX_TRIES} tries on a {canvas}x{canvas} canvas."
    )


@functools.cache
def _offsets(distance: int) -> np.ndarray:
    """Lists the whole offsets [K, 2] whose length rounds to a distance."""
    grid = np.mgrid[-distance - 1 : distance + 2, -distance - 1 : distance + 2]
    offsets = grid.reshape(2, -1).T
    return offsets[np.floor(np.hypot(*offsets.T) + 0.5) == distance]


def _pixels(mask: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Numbers the pixels of a canvas that a mask covers."""
    covered = footprint(mask)
    return (covered.rows + corner[0]) * 2**16 + covered.columns + corner[1]


def draw_objects(
    draws: Draws,
    split: Split,
    draw_some: Callable[[int], tuple[Any, Sequence[np.ndarray]]],
    canvas: int = CANVAS,
) -> tuple[Any, np.ndarray]:
    """Draws the objects of a scene and where they are.

    `draw_some` draws so many objects and returns them and their masks, bool [h, w].

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
    canvas: int = CANVAS,
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
