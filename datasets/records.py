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


class Images(Sequence[np.ndarray]):
    """The images of a split; no other feature is decoded."""

    def __init__(self, prepared: SceneBuilder, split: str):
        self._features = tfds.features.FeaturesDict(
            {"image": prepared.info.features["image"]}
        )
        method = tfds.decode.DeserializeMethod.RAW_BYTES
        records = prepared.as_data_source(split, deserialize_method=method)
        self._records = Examples(prepared, records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._features.deserialize_example_np(self._records[index])["image"]
