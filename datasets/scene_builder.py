"""The common parts of the TFDS builders of scenes: features, splits and progress."""

import abc
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from scipy import special
from tensorflow_datasets.core import example_serializer, writer
from tensorflow_datasets.core.splits import SplitInfo
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import auto as tqdm

from datasets import packing, scenes


class Appearance(NamedTuple):
    """Describes the objects of a data set.

    Attributes:
        entropy: nats per object of its mask and colour together. Masks that differ
            only by a shift count as one.
        sizes: int [K, 2], (height, width) in pixels of the boxes that are placed; an
            object has each of the K with the same probability.
    """

    entropy: float
    sizes: np.ndarray


class PackedSerializer(example_serializer.Serializer):
    """Turns packed examples into TFDS's records, several times as fast as TFDS does."""

    def serialize_example(self, example: dict[str, bytes]) -> bytes:
        """Returns a tf.train.Example of the features, as bytes.

        The features are in the order of their names. Without `deterministic` the order
        would depend on the process.
        """
        record = tf_example_pb2.Example()
        for name, value in example.items():
            record.features.feature[name].bytes_list.value.append(value)
        return record.SerializeToString(deterministic=True)


class SceneBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the builders of scenes.

    Attributes:
        MANUAL_FILES: names of the files that a manual directory has to hold, and the
            SHA-256 of their unpacked content.
    """

    MANUAL_FILES: ClassVar[Mapping[str, str]] = {}

    @property
    def is_binary(self) -> bool:
        """Tells whether the pixels of images are 0 or 255."""
        return True

    @property
    @abc.abstractmethod
    def splits(self) -> dict[str, scenes.Split]:
        """Sizes and random streams of the splits of this configuration, by name."""

    @abc.abstractmethod
    def maker(self, manual_dir: epath.Path | None = None) -> packing.Maker:
        """Returns a function that makes scenes of any split, listed here or not.

        The data set need not be prepared.

        Args:
            manual_dir: see `load.builder`.
        """

    @abc.abstractmethod
    def appearance(self) -> Appearance | None:
        """Describes the objects of the prepared data set, except in new splits.

        None stands for objects that may hide each other.
        """

    def _scene_info(
        self,
        channels: int,
        attributes: dict[str, tfds.features.FeatureConnector],
        metadata: tfds.core.Metadata | None = None,
        canvas: int = scenes.CANVAS,
    ) -> tfds.core.DatasetInfo:
        slots = scenes.MAX_OBJECTS
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": array((canvas, canvas, channels), np.uint8),
                    "segmentation": array((canvas, canvas), np.uint8),
                    "n": array((), np.int32),
                    "centre": array((slots, 2), np.float32),
                    "box": array((slots, 4), np.int32),
                    **attributes,
                }
            ),
            metadata=metadata,
            # Scenes are independent: their order is as good as a shuffled one, and
            # leaves example i of a split at position i.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        """Makes the examples of all splits, of data sets that download nothing."""
        del dl_manager
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split: str):
        return self._packed_examples(split, self.maker())

    def _packed_examples(
        self, split: str, maker: packing.Maker
    ) -> Iterator[tuple[int, dict[str, bytes]]]:
        """Yields index and packed example of all scenes of a split, with progress."""
        wanted = self.splits[split]
        with contextlib.closing(packing.pack_split(maker, wanted)) as packed:
            progress = tqdm.tqdm(
                packed,
                desc=f"{self.info.full_name} {split}",
                total=wanted.num_examples,
                unit=" scenes",
                mininterval=1.0,
            )
            yield from enumerate(progress)

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> list[SplitInfo]:
        """Overrides the base class, which would pack the examples in one process."""
        del download_config  # its settings of how to write are TFDS's defaults
        examples = self._split_generators(dl_manager)
        return [self._write_split(split, examples[split]) for split in examples]

    def _write_split(
        self, split: str, examples: Iterator[tuple[int, dict[str, bytes]]]
    ) -> SplitInfo:
        template = self._get_filename_template(split_name=split)
        split_writer = writer.Writer(
            serializer=PackedSerializer(self.info.features.get_serialized_info()),
            filename_template=template,
            hash_salt=split,
            disable_shuffling=self.info.disable_shuffling,
            example_writer=self._example_writer(),
        )
        # They are closed when writing fails, too, so that no worker goes on.
        with contextlib.closing(examples):
            for index, example in examples:
                split_writer.write(index, example)
        shard_lengths, num_bytes = split_writer.finalize()
        return SplitInfo(
            name=split,
            shard_lengths=shard_lengths,
            num_bytes=num_bytes,
            filename_template=template,
        )


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
    shares = np.array(counts) / len(masks)
    return float(special.entr(shares).sum())
