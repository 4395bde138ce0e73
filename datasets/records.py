"""The examples of a prepared split, by position."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from datasets.scene_builder import SceneBuilder


class Examples(Sequence[Any]):
    """The examples of a split, or one feature of each; then no other is decoded.

    A damaged file raises a ValueError when an example in it is read.
    """

    def __init__(self, prepared: SceneBuilder, split: str, feature: str | None = None):
        names = prepared.info.features if feature is None else (feature,)
        self._features = tfds.features.FeaturesDict(
            {name: prepared.info.features[name] for name in names}
        )
        self._feature, self._path = feature, prepared.data_path
        method = tfds.decode.DeserializeMethod.RAW_BYTES
        self._records = prepared.as_data_source(split, deserialize_method=method)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Any:
        # Past the end this raises an IndexError, which ends Python's iteration.
        position = range(len(self))[index]
        with self._explained_damage():
            return self._decode(self._records[position])

    def part(self, start: int, stop: int) -> list[Any]:
        """Reads the examples from `start` to before `stop` at once.

        This is far faster than reading them one by one.
        """
        with self._explained_damage():
            records = self._records.__getitems__(list(range(start, stop)))
            return list(map(self._decode, records))

    def _decode(self, record):
        example = self._features.deserialize_example_np(record)
        return example if self._feature is None else example[self._feature]

    @contextlib.contextmanager
    def _explained_damage(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise ValueError(
                f"a file of the data set in {self._path} is missing or damaged: "
                f"{error}. Delete this folder, and it is generated again."
            ) from error
