"""TFDS builder of multi-dSprites. See README.md in this folder."""

import dataclasses
import math
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from datasets import scenes
from datasets.multi_dsprites import sprites
from datasets.multi_dsprites.scene import many, scene
from datasets.scene_builder import Appearance, SceneBuilder, SceneMaker, array, entropy


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A size of the data set.

    Attributes:
      num_train: number of scenes of the training split.
      num_test: number of scenes of each other split.
    """

    num_train: int = 190_000
    num_test: int = 10_000


class Builder(SceneBuilder):
    """Scenes of coloured squares, ellipses and triangles on black, 64x64 pixels."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
    BUILDER_CONFIGS: ClassVar[list[Config]] = [
        Config(name="full", description="190k training scenes, 10k of each other."),
        Config(
            name="small",
            description="The first 10k training scenes of `full`, 1k of each other.",
            num_train=10_000,
            num_test=1_000,
        ),
        Config(
            name="tiny",
            description="The first 256 scenes of each split of `full`.",
            num_train=256,
            num_test=256,
        ),
    ]

    @property
    def splits(self) -> dict[str, scenes.Split]:
        """See base class."""
        config = self.builder_config
        return {
            "train": scenes.Split(config.num_train, counts=(0, 1, 2, 3), stream=0),
            "test": scenes.Split(config.num_test, counts=(0, 1, 2, 3), stream=1),
            "test_7": scenes.Split(config.num_test, counts=(7,), stream=2),
            "validation_7": scenes.Split(config.num_test, counts=(7,), stream=4),
        }

    def _info(self) -> tfds.core.DatasetInfo:
        slots = (scenes.MAX_OBJECTS,)
        return self._scene_info(
            channels=3,
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
        return self._packed_examples(split, many)

    def scene_maker(self, manual_dir: epath.Path | None = None) -> SceneMaker:
        """See base class."""
        del manual_dir  # nothing is read
        return scene

    def appearance(self) -> Appearance:
        """See base class."""
        masks = [sprite.mask for sprite in sprites.all_sprites()]
        return Appearance(
            entropy=entropy(masks) + math.log(len(sprites.COLOURS)),
            sizes=np.array([mask.shape for mask in masks]),
        )
