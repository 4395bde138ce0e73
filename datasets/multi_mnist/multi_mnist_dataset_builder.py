"""TFDS builder of multi-MNIST. See README.md in this folder."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import requests
import tensorflow_datasets as tfds
from etils import epath

from datasets import packing, scenes
from datasets.multi_mnist import digits
from datasets.multi_mnist.scene import SEED, make_scenes
from datasets.scene_builder import Appearance, SceneBuilder, array, entropy

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A pool and a size of the data set.

    Attributes:
        pool_size: number of digits the scenes are made of.
        num_train: number of scenes of the training split.
        num_test: number of scenes of each other split.
    """

    pool_size: int = 1_000
    num_train: int = 190_000
    num_test: int = 10_000


class Builder(SceneBuilder):
    """Scenes of binarised handwritten digits on black, 64x64 pixels."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
    MANUAL_FILES: ClassVar[Mapping[str, str]] = {
        file.name: file.sha256 for file in (digits.IMAGES, digits.LABELS)
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Optional, for machines without network access: the directory holds "
        f"{digits.IMAGES.name} and {digits.LABELS.name}, as found at {MIRRORS[0]}."
    )
    BUILDER_CONFIGS: ClassVar[list[Config]] = [
        Config(name="1k", description="A pool of 1,000 digits.", pool_size=1_000),
        Config(name="10k", description="A pool of 10,000 digits.", pool_size=10_000),
        Config(
            name="tiny",
            description="The first 256 scenes of each split of `1k`.",
            num_train=256,
            num_test=256,
        ),
    ]

    @property
    def splits(self) -> dict[str, scenes.Split]:
        """Overrides the base class."""
        config, few = self.builder_config, (0, 1, 2, 3)
        return {
            "train": scenes.Split(config.num_train, counts=few, stream=0),
            "test": scenes.Split(config.num_test, counts=few, stream=1),
            "test_7": scenes.Split(config.num_test, counts=(7,), stream=2),
            "test_new_digits": scenes.Split(config.num_test, counts=few, stream=3),
            "validation_7": scenes.Split(config.num_test, counts=(7,), stream=4),
            "test_close": scenes.Split(config.num_test, (2,), 5, scenes.CLOSE),
            "validation_close": scenes.Split(config.num_test, (2,), 6, scenes.CLOSE),
        }

    def _info(self) -> tfds.core.DatasetInfo:
        slots = (scenes.MAX_OBJECTS,)
        return self._scene_info(
            channels=1,
            attributes={
                "digit": array(slots, np.int32),
                "pool_index": array(slots, np.int32),
                "mnist_index": array(slots, np.int32),
            },
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        pool, new = self._digits(dl_manager)
        self.info.metadata["mask_entropy"] = entropy(list(pool.masks))
        return {
            split: self._generate_examples(
                split, new if split == "test_new_digits" else pool
            )
            for split in self.splits
        }

    def _generate_examples(self, split: str, available: digits.Digits):
        return self._packed_examples(
            split, functools.partial(make_scenes, available, self._seed)
        )

    def maker(self, manual_dir: epath.Path | None = None) -> packing.Maker:
        """Overrides the base class; the digits are those of the pool."""
        dl_manager = tfds.download.DownloadManager(
            download_dir=self.data_path.parents[2] / "downloads",
            manual_dir=manual_dir,
            manual_dir_instructions=self.MANUAL_DOWNLOAD_INSTRUCTIONS,
            url_infos=self.url_infos,
        )
        pool, _ = self._digits(dl_manager)
        return functools.partial(make_scenes, pool, self._seed)

    def _digits(self, dl_manager):
        """Reads MNIST, and chooses the digits of the pool and the new ones."""
        images, labels = (
            digits.read_idx(find_file(dl_manager, file), file)
            for file in (digits.IMAGES, digits.LABELS)
        )
        return digits.choose(images, labels, self.builder_config.pool_size)

    @property
    def _seed(self):
        return SEED, self.builder_config.pool_size

    def appearance(self) -> Appearance:
        """Overrides the base class."""
        return Appearance(
            entropy=self.info.metadata["mask_entropy"],
            sizes=np.array([[digits.SIDE, digits.SIDE]]),
        )


def find_file(
    dl_manager: tfds.download.DownloadManager, file: digits.IdxFile
) -> epath.Path:
    """Finds a file in the manual directory, or else downloads it.

    Raises:
        OSError: if no mirror has it.
    """
    # TFDS raises an AssertionError where there is no manual directory.
    with contextlib.suppress(AssertionError):
        manual_file = dl_manager.manual_dir / file.name
        if manual_file.exists():
            return manual_file
    failures = []
    for mirror in MIRRORS:
        print(f"Downloading {mirror}{file.name}", file=sys.stderr)
        try:
            return dl_manager.download(mirror + file.name)
        except (
            OSError,
            requests.RequestException,
            tfds.download.DownloadError,
            tfds.download.download_manager.NonMatchingChecksumError,
        ) as error:
            failures.append(f"{mirror}: {error}")
    raise OSError(
        f"Could not download {file.name} from any mirror of MNIST. Put it into a "
        "directory and pass that as manual_dir (SHA-256 of its unpacked content: "
        f"{file.sha256}). What was tried:\n" + "\n".join(failures)
    )
