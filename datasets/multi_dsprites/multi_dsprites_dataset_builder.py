"""TFDS builder of multi-dSprites. See README.md in this folder."""

import dataclasses
import functools
import math
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from datasets import packing, scenes
from datasets.multi_dsprites import sprites
from datasets.multi_dsprites.scene import (
    BENCH,
    PAPER,
    Size,
    make_coloured_scenes,
    make_scenes,
)
from datasets.scene_builder import Appearance, SceneBuilder, array, entropy


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A size of the data set.

    Attributes:
        num_train: number of scenes of the training split.
        num_test: number of scenes of each other split.
        size: how large a scene and its objects are.
        crowd: objects in each scene of the crowded splits, whose names end in it.
        close: distances between the objects of the close splits, in pixels.
        counts: numbers of objects in each scene of `train` and `test`.
        coloured: whether colours and backgrounds vary and objects hide each other;
            there are no close splits then.
        noise: standard deviation of the pixels of these scenes, in 8-bit values.
    """

    num_train: int = 190_000
    num_test: int = 10_000
    size: Size = PAPER
    crowd: int = 7
    close: tuple[int, ...] = scenes.CLOSE
    counts: tuple[int, ...] = (0, 1, 2, 3)
    coloured: bool = False
    noise: float = 0.0


class Builder(SceneBuilder):
    """Scenes of coloured squares, ellipses and triangles on black, 64x64 pixels.

    The scenes of the configuration `bench` are 32x32 pixels, with smaller objects.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
    BUILDER_CONFIGS: ClassVar[list[Config]] = [
        Config(name="full", description="190k training scenes, 10k per other split."),
        Config(
            name="small",
            description="The first 10k training scenes of `full`, 1k per other split.",
            num_train=10_000,
            num_test=1_000,
        ),
        Config(
            name="tiny",
            description="The first 256 scenes of each split of `full`.",
            num_train=256,
            num_test=256,
        ),
        Config(
            name="bench",
            description="40k training scenes of 32x32 pixels, 2k per other split.",
            num_train=40_000,
            num_test=2_000,
            size=BENCH,
            crowd=5,  # cover as much of this canvas as seven do of 64x64 pixels
            close=tuple(range(3, 13)),
        ),
        Config(
            name="coloured",
            description="Any colours, on grey of any level; objects hide each other.",
            counts=tuple(range(6)),
            coloured=True,
        ),
        Config(
            name="coloured_noisy",
            description="Scenes like those of `coloured`, with noisy pixels.",
            counts=tuple(range(6)),
            coloured=True,
            noise=12.0,
        ),
        Config(
            name="coloured_tiny",
            description="The first 256 scenes of each split of `coloured_noisy`.",
            num_train=256,
            num_test=256,
            counts=tuple(range(6)),
            coloured=True,
            noise=12.0,
        ),
    ]

    @property
    def is_binary(self) -> bool:
        """Overrides the base class."""
        return not self.builder_config.coloured

    @property
    def splits(self) -> dict[str, scenes.Split]:
        """Overrides the base class."""
        config = self.builder_config
        crowd, num_test = config.crowd, config.num_test
        splits = {
            "train": scenes.Split(config.num_train, config.counts, stream=0),
            "test": scenes.Split(num_test, config.counts, stream=1),
            f"test_{crowd}": scenes.Split(num_test, (crowd,), stream=2),
            f"validation_{crowd}": scenes.Split(num_test, (crowd,), stream=4),
        }
        if config.coloured:
            return splits
        return splits | {
            "test_close": scenes.Split(num_test, (2,), 5, config.close),
            "validation_close": scenes.Split(num_test, (2,), 6, config.close),
        }

    def _info(self) -> tfds.core.DatasetInfo:
        slots = (scenes.MAX_OBJECTS,)
        colours = {"colour": array(slots, np.int32)}
        if self.builder_config.coloured:
            rgb = array((*slots, 3), np.int32)
            colours = {"rgb": rgb, "background": array((), np.int32)}
        return self._scene_info(
            channels=3,
            canvas=self.builder_config.size.canvas,
            attributes={
                "shape": array(slots, np.int32),
                "scale": array(slots, np.float32),
                "angle": array(slots, np.float32),
                **colours,
            },
        )

    def maker(self, manual_dir: epath.Path | None = None) -> packing.Maker:
        """Overrides the base class."""
        del manual_dir  # nothing is read
        if self.builder_config.coloured:
            noise = self.builder_config.noise
            return functools.partial(make_coloured_scenes, noise=noise)
        return functools.partial(make_scenes, size=self.builder_config.size)

    def appearance(self) -> Appearance | None:
        """Overrides the base class."""
        if self.builder_config.coloured:
            return None
        pool = sprites.all_sprites(self.builder_config.size.radius)
        masks = [sprite.mask for sprite in pool]
        return Appearance(
            entropy=entropy(masks) + math.log(len(sprites.COLOURS)),
            sizes=np.array([mask.shape for mask in masks]),
        )
