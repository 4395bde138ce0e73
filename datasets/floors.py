"""The least number of nats per image that a model of the scenes needs.

Two numbers per data set and split, both for images with n uniform over the split's
counts:

- The entropy of the data, which no model beats. With boxes that never overlap, an image
  is a set of (mask and colour, position), so its entropy is

      H = log |counts| + E[ n h + log P(positions | sizes)^-1 - log n! ],

  where h is the entropy of an object's mask and colour. By the law of `placing.place`

      log P(positions | sizes)^-1 = sum_i log F_i + log Z,

  F_i being the number of free positions for the i-th box and Z the probability that a
  try to place all boxes succeeds. With T the number of tries, E[sum_{k<T} 1/k] =
  -log Z. The expectations are averages over 20,000 placements drawn from a fixed seed.
  The log n! counts all orders of a set as equally probable. They nearly are, and what
  is lost makes the number too low, by less than 0.01 nats with up to three objects.

- The floor of the model family, which any LAVAE obeys whatever its networks: its prior
  over locations is uniform over the sites not yet taken, so the i-th of n objects costs
  log(D - i + 1) nats, D = height * width, although not every site can hold it:

      floor = log |counts| + E[ n h + sum_i log(D - i + 1) - log n! ].
"""

import math
from typing import NamedTuple

import numpy as np

from datasets import load, placing, scenes
from datasets.load import Folder
from datasets.scene_builder import Appearance

NUM_PLACEMENTS = 20_000
SEED = 3


class Floor(NamedTuple):
    """Bounds on the negative log-likelihood of a split, in nats per image.

    They are the entropy of the data and the lowest value that a model with a uniform
    prior over sites can reach.
    """

    entropy: float
    floor: float


class NoFloorError(ValueError):
    """A split shows objects that the training split does not."""


def floor(
    name: str, split: str = "test", data_dir: Folder = None, manual_dir: Folder = None
) -> Floor:
    """Computes the bounds of one split; the data set is generated first if need be.

    With a model whose p(n) is not the split's, as on test_7 after training on zero to
    three objects, add -log p(n) and subtract log |counts|.

    The same call always gives the same numbers. Arguments are those of `load.images`,
    but the split must be a whole one, such as "test".

    Raises:
        ValueError: if the name or the split is unknown, or it is part of a split.
        NoFloorError: if the split shows objects that the training split does not, so
            that no trained model can know their probabilities.
    """
    load.check_split(name, split)
    if split == "test_new_digits":
        raise NoFloorError(f"{split!r} of {name!r} has no floor: its digits are new.")
    builder = load.builder(name, data_dir, manual_dir)
    if split not in builder.splits:
        raise ValueError(f"only a whole split has a floor: got {split!r} of {name!r}.")
    counts, appearance = builder.splits[split].counts, builder.appearance()
    if appearance is None or builder.splits[split].distances:
        raise NoFloorError(
            f"{split!r} of {name!r} has no floor: its objects may hide each other."
        )
    canvas = load.image_shape(name)[0]
    return Floor(
        entropy=entropy(counts, appearance, NUM_PLACEMENTS, canvas),
        floor=family_floor(counts, appearance.entropy, canvas),
    )


def family_floor(
    counts: tuple[int, ...], object_entropy: float, canvas: int = scenes.CANVAS
) -> float:
    """Computes the floor of the model family, in nats per image.

    Args:
        counts: the numbers of objects, each equally probable.
        object_entropy: nats per object of mask and colour.
        canvas: height and width of the canvas, in pixels.
    """
    num_sites = canvas**2
    per_count = [
        sum(math.log(num_sites - i) for i in range(n))
        + n * object_entropy
        - math.lgamma(n + 1)
        for n in counts
    ]
    return math.log(len(counts)) + math.fsum(per_count) / len(counts)


def entropy(
    counts: tuple[int, ...],
    appearance: Appearance,
    num_placements: int,
    canvas: int = scenes.CANVAS,
) -> float:
    """Estimates the entropy of the data, in nats per image; see `family_floor`.

    `num_placements` is the sample size for each number of objects.
    """
    per_count = [
        n * appearance.entropy
        - math.lgamma(n + 1)
        + placement_entropy(n, appearance.sizes, num_placements, canvas)
        for n in counts
    ]
    return math.log(len(counts)) + math.fsum(per_count) / len(counts)


def placement_entropy(
    n: int, sizes: np.ndarray, num_placements: int, canvas: int = scenes.CANVAS
) -> float:
    """Estimates E[sum_i log F_i + log Z] for n boxes in the order of their placement.

    Each box has one of the `sizes`, int [K, 2] (height, width), chosen uniformly.
    """
    total = 0.0
    for index in range(num_placements):
        draws = scenes.Draws(SEED, n, index)
        chosen = [tuple(sizes[draws.below(len(sizes))]) for _ in range(n)]
        placed = placing.place(draws, chosen, canvas)
        for num_free in placed.num_free:
            total += math.log(num_free)
        total -= math.fsum(1 / k for k in range(1, placed.tries))
    return total / num_placements
