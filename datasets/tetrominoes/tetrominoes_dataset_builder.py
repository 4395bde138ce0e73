"""TFDS builder of Tetrominoes. See README.md in this folder."""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from datasets import packing, scenes
from datasets.scene_builder import Appearance, SceneBuilder, array
from datasets.tetrominoes import pieces
from datasets.tetrominoes.scene import make_scenes

_COUNTS = (3,)


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A size of the data set.

    Attributes:
        num_train: number of scenes of the training split.
        num_test: number of scenes of each other split.
    """

    num_train: int = 60_000
    num_test: int = 10_000


class Builder(SceneBuilder):
    """Scenes of three pieces of Tetris in six colours on black, 35x35 pixels."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
    BUILDER_CONFIGS: ClassVar[list[Config]] = [
        Config(name="full", description="60k training scenes, 10k per other split."),
        Config(
            name="tiny",
            description="The first 256 scenes of each split of `full`.",
            num_train=256,
            num_test=256,
        ),
    ]

    @property
    def splits(self) -> dict[str, scenes.Split]:
        """Overrides the base class."""
        config = self.builder_config
        return {
            "train": scenes.Split(config.num_train, _COUNTS, stream=0),
            "test": scenes.Split(config.num_test, _COUNTS, stream=1),
            "validation": scenes.Split(config.num_test, _COUNTS, stream=2),
        }

    def _info(self) -> tfds.core.DatasetInfo:
        slots = (scenes.MAX_OBJECTS,)
        return self._scene_info(
            channels=3,
            canvas=pieces.CANVAS,
            attributes={
                "piece": array(slots, np.int32),
                "colour": array(slots, np.int32),
            },
        )

    def maker(self, manual_dir: epath.Path | None = None) -> packing.Maker:
        """Overrides the base class."""
        del manual_dir  # nothing is read
        return make_scenes

    def appearance(self) -> Appearance | None:
        """Overrides the base class; the places of pieces depend on each other."""
        return None
