"""Scenes of tetrominoes. Workers import this module: it needs only NumPy."""

from collections.abc import Sequence

import numpy as np

from datasets import placing, scenes
from datasets.tetrominoes import pieces

SEED = 3


def make_scenes(
    split: scenes.Split, indices: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """Returns scenes of a split with their ground truth, as described in README.md."""
    layouts, attributes = zip(*(_layout(split, i) for i in indices), strict=True)
    return scenes.examples(scenes.draw_all(layouts, pieces.CANVAS), attributes)


def _layout(split, index):
    """Draws the pieces of a scene, their colours and places."""
    draws = scenes.Draws(SEED, split.stream, index)
    n = split.counts[draws.below(len(split.counts))]
    chosen = [draws.below(len(pieces.masks())) for _ in range(n)]
    colours = [draws.below(len(pieces.COLOURS)) for _ in range(n)]
    masks = [pieces.masks()[piece] for piece in chosen]
    corners = placing.place_freely(draws, masks, pieces.CANVAS, most_hidden=0.0)
    layout = scenes.Layout(masks, corners, pieces.RGB[colours])
    return layout, {
        "n": np.array(n, np.int32),
        "piece": scenes.padded(chosen, np.int32),
        "colour": scenes.padded(colours, np.int32),
    }
