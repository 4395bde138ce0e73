"""Scenes of multi-dSprites. Workers import this module: it needs only NumPy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets import scenes
from datasets.multi_dsprites import sprites

SEED = 1


class Size(NamedTuple):
    """Holds the sizes of scenes and their objects, in pixels.

    Attributes:
        canvas: height and width of a scene.
        radius: of the circle around the largest sprites, see `sprites.RADIUS`.
    """

    canvas: int = scenes.CANVAS
    radius: float = sprites.RADIUS


PAPER = Size()
BENCH = Size(canvas=32, radius=sprites.SMALL_RADIUS)


def make_scenes(
    split: scenes.Split, indices: Sequence[int], size: Size = PAPER
) -> list[dict[str, np.ndarray]]:
    """Returns scenes of a split with their ground truth, as described in README.md."""
    layouts, attributes = zip(*(_layout(split, i, size) for i in indices), strict=True)
    return scenes.examples(scenes.draw_all(layouts, size.canvas), attributes)


def _layout(split, index, size):
    """Draws the objects of a scene, where they are, and their attributes."""
    draws = scenes.Draws(SEED, split.stream, index)
    pool = sprites.all_sprites(size.radius)

    def draw_some(n):
        objects = [pool[draws.below(len(pool))] for _ in range(n)]
        colours = [draws.below(len(sprites.COLOURS)) for _ in range(n)]
        return (objects, colours), [sprite.mask for sprite in objects]

    drawn, corners = scenes.draw_objects(draws, split, draw_some, size.canvas)
    objects, colours = drawn
    masks = [sprite.mask for sprite in objects]
    layout = scenes.Layout(masks, corners, sprites.RGB[colours])
    return layout, {
        "n": np.array(len(objects), np.int32),
        "shape": scenes.padded([s.shape for s in objects], np.int32),
        "scale": scenes.padded([sprites.SCALES[s.scale] for s in objects], np.float32),
        "angle": scenes.padded([sprites.ANGLES[s.angle] for s in objects], np.float32),
        "colour": scenes.padded(colours, np.int32),
    }
