"""What the TFDS builders of scenes share: features, splits, progress."""

import abc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from scipy import stats
from tqdm import auto as tqdm

from datasets import scenes


class Appearance(NamedTuple):
    """What the objects of a data set can look like.

    Attributes:
      entropy: nats per object of its mask and colour together. Masks that differ
        only by a shift count as one.
      sizes: int [K, 2], (height, width) in pixels of the boxes that are placed; an
        object has each of the K with the same probability.
    """

    entropy: float
    sizes: np.ndarray


class SceneBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the builders of scenes.

    Attributes:
      MANUAL_FILES: names of the files that a manual directory has to hold, and the
        SHA-256 of their unpacked content.
    """

    MANUAL_FILES: ClassVar[Mapping[str, str]] = {}

    @property
    @abc.abstractmethod
    def splits(self) -> dict[str, scenes.Split]:
        """Sizes and random streams of the splits of this configuration, by name."""

    @abc.abstractmethod
    def scene_maker(
        self, manual_dir: epath.Path | None = None
    ) -> Callable[[scenes.Split, int], dict[str, Any]]:
        """Returns what makes scene `index` of any split, also of one not listed here.

        The data set need not be prepared.

        Args:
          manual_dir: see `load.builder`.
        """

    @abc.abstractmethod
    def appearance(self) -> Appearance:
        """Describes the objects of the prepared data set, except in new splits."""

    def _scene_info(
        self,
        channels: int,
        attributes: dict[str, tfds.features.FeatureConnector],
        metadata: tfds.core.Metadata | None = None,
    ) -> tfds.core.DatasetInfo:
        canvas, slots = (scenes.CANVAS, scenes.CANVAS), scenes.MAX_OBJECTS
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": array((*canvas, channels), np.uint8),
                    "segmentation": array(canvas, np.uint8),
                    "n": array((), np.int32),
                    "centre": array((slots, 2), np.float32),
                    "box": array((slots, 4), np.int32),
                    **attributes,
                }
            ),
            metadata=metadata,
            # Scenes are independent: their own order is as good as a shuffled one,
            # and leaves example i of a split at position i.
            disable_shuffling=True,
        )

    def _with_progress(
        self, split: str, scene: Callable[[scenes.Split, int], dict[str, Any]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        progress = tqdm.tqdm(
            range(self.splits[split].num_examples),
            desc=f"{self.info.full_name} {split}",
            unit=" scenes",
            mininterval=1.0,
        )
        for index in progress:
            yield index, scene(self.splits[split], index)


def array(shape: tuple[int, ...], dtype: type[np.generic]) -> tfds.features.Tensor:
    """Returns the feature of an array that is read and written without TensorFlow."""
    return tfds.features.Tensor(
        shape=shape, dtype=dtype, encoding=tfds.features.Encoding.ZLIB
    )


def entropy(masks: list[np.ndarray]) -> float:
    """Returns the entropy in nats of a mask drawn uniformly from a list of bool [h, w].

    Masks that differ only by a shift count as one.
    """
    cropped = [scenes.crop(mask) for mask in masks]
    counts = list(Counter((mask.shape, mask.tobytes()) for mask in cropped).values())
    return float(stats.entropy(counts))
