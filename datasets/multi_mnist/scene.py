"""Scenes of multi-MNIST. Workers import this module: it needs no TFDS or SciPy."""

from collections.abc import Sequence

import numpy as np

from datasets import placing, scenes
from datasets.multi_mnist import digits

SEED = 2


def make_scenes(
    available: digits.Digits,
    seed: tuple[int, int],
    split: scenes.Split,
    indices: Sequence[int],
) -> list[dict[str, np.ndarray]]:
    """Returns scenes of a split with their ground truth, as described in README.md.

    In the data sets, the seed is `SEED` and the size of the pool of `available` digits.
    """
    drawn = (_layout(available, seed, split, index) for index in indices)
    layouts, attributes = zip(*drawn, strict=True)
    return scenes.examples(scenes.draw_all(layouts), attributes)


def _layout(available, seed, split, index):
    """Draws the digits of a scene and where they are."""
    draws = scenes.Draws(*seed, split.stream, index)

    def draw_some(n):
        chosen = [draws.below(len(available.masks)) for _ in range(n)]
        return chosen, available.masks[chosen]

    chosen, corners = placing.draw_objects(draws, split, draw_some)
    n = len(chosen)
    layout = scenes.Layout(
        masks=available.masks[chosen],
        corners=corners,
        colours=np.full((n, 1), 255, np.uint8),
    )
    return layout, {
        "n": np.array(n, np.int32),
        "digit": scenes.padded(available.labels[chosen], np.int32),
        "pool_index": scenes.padded(available.pool_index[chosen], np.int32),
        "mnist_index": scenes.padded(available.mnist_index[chosen], np.int32),
    }
