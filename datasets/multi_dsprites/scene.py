"""Scenes of multi-dSprites. Workers import this module: it needs only NumPy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets import placing, scenes
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

    drawn, corners = placing.draw_objects(draws, split, draw_some, size.canvas)
    objects, colours = drawn
    masks = [sprite.mask for sprite in objects]
    layout = scenes.Layout(masks, corners, sprites.RGB[colours])
    return layout, {
        **_attributes(objects),
        "colour": scenes.padded(colours, np.int32),
    }


def _attributes(objects):
    return {
        "n": np.array(len(objects), np.int32),
        "shape": scenes.padded([s.shape for s in objects], np.int32),
        "scale": scenes.padded([sprites.SCALES[s.scale] for s in objects], np.float32),
        "angle": scenes.padded([sprites.ANGLES[s.angle] for s in objects], np.float32),
    }


def make_coloured_scenes(
    split: scenes.Split, indices: Sequence[int], noise: float
) -> list[dict[str, np.ndarray]]:
    """Returns scenes of sprites that hide each other, as described in README.md.

    `noise` is the standard deviation of every pixel and channel, in 8-bit values.
    """
    drawn = [scenes.Draws(SEED, split.stream, i) for i in indices]
    layouts, attributes = zip(*(_coloured(d, split) for d in drawn), strict=True)
    pictures = scenes.draw_all(layouts)
    if noise:
        numbers = np.stack([d.gaussian(pictures.image.shape[1:]) for d in drawn])
        noisy = np.rint(pictures.image + noise * numbers)
        pictures = pictures._replace(image=np.clip(noisy, 0, 255).astype(np.uint8))
    return scenes.examples(pictures, attributes)


def _coloured(draws, split):
    """Draws the objects of a scene, their colours and places, and the background."""
    n = split.counts[draws.below(len(split.counts))]
    pool = sprites.all_sprites(PAPER.radius)
    objects = [pool[draws.below(len(pool))] for _ in range(n)]
    colours = [[draws.below(256) for _ in range(3)] for _ in range(n)]
    colours = np.array(colours, np.uint8).reshape(-1, 3)
    background, masks = draws.below(256), [sprite.mask for sprite in objects]
    corners = placing.place_freely(draws, masks)
    layout = scenes.Layout(masks, corners, colours, background)
    rgb = np.full((scenes.MAX_OBJECTS, 3), scenes.EMPTY, np.int32)
    rgb[:n] = colours
    return layout, {
        **_attributes(objects),
        "rgb": rgb,
        "background": np.array(background, np.int32),
    }
