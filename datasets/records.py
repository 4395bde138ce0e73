"""The examples of a prepared split, by position."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from datasets.scene_builder import SceneBuilder


class Examples(Sequence[dict[str, np.ndarray]]):
    """What TFDS gives of a split, with an error of its own for damaged files."""

    def __init__(self, prepared: SceneBuilder, records: Sequence[Any]):
        self._path, self._records = prepared.data_path, records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Any:
        # Past the end an IndexError, by which Python knows where a sequence ends.
        position = range(len(self))[index]
        with self._damage():
            return self._records[position]

    def part(self, start: int, stop: int) -> Sequence[Any]:
        """The examples from one position to before another, read at once."""
        with self._damage():
            return self._records.__getitems__(list(range(start, stop)))

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise ValueError(
                f"a file of the data set in {self._path} is missing or damaged: "
                f"{error}. Delete this folder, and it is generated again."
            ) from error


class Feature(Sequence[np.ndarray]):
    """One feature of the examples of a split; no other is decoded."""

    def __init__(self, prepared: SceneBuilder, split: str, name: str):
        self._name = name
        self._features = tfds.features.FeaturesDict(
            {name: prepared.info.features[name]}
        )
        method = tfds.decode.DeserializeMethod.RAW_BYTES
        records = prepared.as_data_source(split, deserialize_method=method)
        self._records = Examples(prepared, records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._decode(self._records[index])

    def part(self, start: int, stop: int) -> list[np.ndarray]:
        """The values from one position to before another, read at once."""
        return list(map(self._decode, self._records.part(start, stop)))

    def _decode(self, record):
        return self._features.deserialize_example_np(record)[self._name]
