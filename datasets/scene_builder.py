"""What the TFDS builders of scenes share: features, splits, progress."""

import abc
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import auto as tqdm

from datasets import scenes

Features = dict[str, tfds.features.FeatureConnector]


class SceneBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the builders: a subclass says which scene has a given index."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}

    @property
    @abc.abstractmethod
    def splits(self) -> dict[str, scenes.Split]:
        """Sizes and random streams of the splits of this configuration, by name."""

    @abc.abstractmethod
    def example(self, split: str, index: int) -> dict[str, Any]:
        """Returns example number `index` of a split: a pure function of the two."""

    def _scene_info(self, channels: int, attributes: Features) -> tfds.core.DatasetInfo:
        slots = scenes.MAX_OBJECTS
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": array((scenes.CANVAS, scenes.CANVAS, channels), np.uint8),
                    "segmentation": array((scenes.CANVAS, scenes.CANVAS), np.uint8),
                    "n": array((), np.int32),
                    "centre": array((slots, 2), np.float32),
                    "box": array((slots, 4), np.int32),
                    **attributes,
                }
            ),
            # Scenes are independent: their own order is as good as a shuffled one,
            # and leaves example i of a split at position i.
            disable_shuffling=True,
        )

    def _scenes(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        progress = tqdm.tqdm(
            range(self.splits[split].num_examples),
            desc=f"{self.info.full_name} {split}",
            unit=" scenes",
            mininterval=1.0,
        )
        for index in progress:
            yield index, self.example(split, index)


def array(shape: tuple[int, ...], dtype: type[np.generic]) -> tfds.features.Tensor:
    """Returns the feature of an array that is read and written without TensorFlow."""
    return tfds.features.Tensor(
        shape=shape, dtype=dtype, encoding=tfds.features.Encoding.ZLIB
    )
