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
from datasets.multi_dsprites.scene import BENCH, PAPER, Size, make_scenes
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
    """

    num_train: int = 190_000
    num_test: int = 10_000
    size: Size = PAPER
    crowd: int = 7
    close: tuple[int, ...] = scenes.CLOSE


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
    ]

    @property
    def splits(self) -> dict[str, scenes.Split]:
        """Overrides the base class."""
        config = self.builder_config
        crowd = config.crowd
        return {
            "train": scenes.Split(config.num_train, counts=(0, 1, 2, 3), stream=0),
            "test": scenes.Split(config.num_test, counts=(0, 1, 2, 3), stream=1),
            f"test_{crowd}": scenes.Split(config.num_test, (crowd,), stream=2),
            f"validation_{crowd}": scenes.Split(config.num_test, (crowd,), stream=4),
            "test_close": scenes.Split(config.num_test, (2,), 5, config.close),
            "validation_close": scenes.Split(config.num_test, (2,), 6, config.close),
        }

    def _info(self) -> tfds.core.DatasetInfo:
        slots = (scenes.MAX_OBJECTS,)
        return self._scene_info(
            channels=3,
            canvas=self.builder_config.size.canvas,
            attributes={
                "shape": array(slots, np.int32),
                "scale": array(slots, np.float32),
                "angle": array(slots, np.float32),
                "colour": array(slots, np.int32),
            },
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split: str):
        return self._packed_examples(split, self.maker())

    def maker(self, manual_dir: epath.Path | None = None) -> packing.Maker:
        """Overrides the base class."""
        del manual_dir  # nothing is read
        return functools.partial(make_scenes, size=self.builder_config.size)

    def appearance(self) -> Appearance:
        """Overrides the base class."""
        pool = sprites.all_sprites(self.builder_config.size.radius)
        masks = [sprite.mask for sprite in pool]
        return Appearance(
            entropy=entropy(masks) + math.log(len(sprites.COLOURS)),
            sizes=np.array([mask.shape for mask in masks]),
        )
