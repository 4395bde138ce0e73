"""Prepares the data sets on first use and reads them by name.

source = load.data_source("multi_dsprites", "train[:185000]")
source[0]["image"]  # uint8 [64, 64, 3]
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from google.protobuf import json_format

from datasets import records, scenes
from datasets.multi_dsprites import multi_dsprites_dataset_builder
from datasets.multi_mnist import multi_mnist_dataset_builder
from datasets.scene_builder import SceneBuilder
from datasets.tetrominoes import tetrominoes_dataset_builder

Folder = str | os.PathLike[str] | None
"""A folder; None or "" stands for the default."""

BUILDERS = {
    f"{name}/{config.name}": (module.Builder, config.name)
    for name, module in {
        "multi_dsprites": multi_dsprites_dataset_builder,
        "multi_mnist": multi_mnist_dataset_builder,
        "tetrominoes": tetrominoes_dataset_builder,
    }.items()
    for config in module.Builder.BUILDER_CONFIGS
}
BUILDERS["multi_dsprites"] = BUILDERS.pop("multi_dsprites/full")
"""Builder and configuration of every data set, by name."""


def builder(
    name: str, data_dir: Folder = None, manual_dir: Folder = None
) -> SceneBuilder:
    """Returns the builder of a data set, which is generated first if need be.

    An interrupted generation leaves nothing that looks like a data set: TFDS writes to
    a directory of another name, which it renames at the end.

    Args:
        name: one of `BUILDERS`.
        data_dir: where prepared data sets are; by default (None or "") it is TFDS's
            choice, TFDS_DATA_DIR in the environment or ~/tensorflow_datasets.
        manual_dir: where MNIST's files are; without it they are downloaded.

    Raises:
        ValueError: if the name is unknown, a file has the wrong content, or what is in
            data_dir is not a complete data set.
        FileNotFoundError: if manual_dir lacks a file that the data set needs.
        OSError: if a file can't be downloaded or the data set can't be written.
    """
    unprepared = _builder(name, data_dir)
    if not unprepared.data_path.exists():
        _prepare(unprepared, manual_dir)
    elif not unprepared.is_prepared():
        raise ValueError(
            f"{unprepared.data_path} is not a complete data set. Delete it, and it is "
            "generated again."
        )
    # This is a new one, because another process may have won the race to prepare.
    return _builder(name, data_dir)


def data_source(
    name: str, split: str, data_dir: Folder = None, manual_dir: Folder = None
) -> Sequence[dict[str, np.ndarray]]:
    """Returns a random-access source of whole examples.

    The README of a data set describes their features. A split may be part of one:
    "train[:185000]", "train[-5000:]", "train[:10%]". Other arguments are `builder`'s.

    Raises:
        ValueError: if the name or the split is unknown; see also `builder`. When an
            example is read: if the file that it is in is damaged.
    """
    prepared = _prepared(name, split, data_dir, manual_dir)
    return records.Examples(prepared, split)


def images(
    name: str, split: str, data_dir: Folder = None, manual_dir: Folder = None
) -> Sequence[np.ndarray]:
    """Returns a random-access source of images, twice as fast as whole examples.

    They are uint8 [H, W, C]. `data_source` has the same arguments and errors.
    """
    prepared = _prepared(name, split, data_dir, manual_dir)
    return records.Examples(prepared, split, "image")


def object_counts(
    name: str, split: str, data_dir: Folder = None, manual_dir: Folder = None
) -> np.ndarray:
    """Returns the numbers of objects, int [N], of all images of a split.

    Arguments and errors are those of `data_source`.
    """
    prepared = _prepared(name, split, data_dir, manual_dir)
    counts = records.Examples(prepared, split, "n")
    return np.array(counts.part(0, len(counts)), np.int64)


def scene_maker(
    name: str, data_dir: Folder = None, manual_dir: Folder = None
) -> Callable[[scenes.Split, int], dict[str, np.ndarray]]:
    """Returns a function that makes more scenes like those of a data set.

    scene = load.scene_maker("multi_dsprites")
    scene(scenes.extra_split(n=9, seed=0), 5)["image"]

    The data set need not exist; downloads are kept in `data_dir`. Arguments and errors
    are those of `builder`.

    Returns:
        A function of a split and an index, which gives an example like `data_source`.
        It raises a ValueError where so many objects do not fit.
    """
    unprepared = _builder(name, data_dir)
    make = unprepared.maker(_checked_manual_dir(unprepared, manual_dir))
    return lambda split, index: make(split, [index])[0]


def image_shape(name: str) -> tuple[int, int, int]:
    """Returns the (H, W, C) of a data set's images, which need not exist yet."""
    return tuple(_builder(name).info.features["image"].shape)


def is_binary(name: str) -> bool:
    """Tells whether the pixels of a data set's images are 0 or 255."""
    return _builder(name).is_binary


def splits(name: str) -> dict[str, scenes.Split]:
    """Returns the splits of a data set, which need not exist yet, by name."""
    return _builder(name).splits


def check_split(name: str, split: str) -> set[str]:
    """Checks the names of a data set and a split before anything is generated.

    Returns:
        The names of the whole splits that the split takes examples from.

    Raises:
        ValueError: if the name or the split is unknown.
    """
    known = _builder(name).splits
    names = {part.partition("[")[0].strip() for part in split.split("+")}
    if names - known.keys():
        raise ValueError(
            f"Unknown split {split!r} of {name!r}. Valid are {', '.join(known)} and "
            "parts of them such as 'train[:1000]' or 'train[-10%:]'."
        )
    tfds.core.ReadInstruction.from_spec(split)
    return names


def _prepared(name, split, data_dir, manual_dir):
    """Returns the builder of a prepared data set that has the splits of `split`."""
    wanted = check_split(name, split)
    prepared = builder(name, data_dir, manual_dir)
    if missing := wanted - prepared.info.splits.keys():
        raise ValueError(
            f"{prepared.data_path} was generated before {', '.join(missing)} belonged "
            "to the data set. Delete it, and it is generated again with the same "
            "scenes in all other splits."
        )
    return prepared


def _builder(name: str, data_dir: Folder = None) -> SceneBuilder:
    if name not in BUILDERS:
        raise ValueError(f"Unknown data set {name!r}. Valid are {', '.join(BUILDERS)}.")
    builder_class, config = BUILDERS[name]
    folder = epath.Path(data_dir).expanduser() if data_dir else None
    try:
        return builder_class(config=config, data_dir=folder, file_format="array_record")
    except json_format.Error as error:
        place = data_dir or "TFDS's own data_dir"
        raise ValueError(
            f"dataset_info.json of {name} in {place} is damaged: {error}. Delete the "
            "folder that it is in, and it is generated again."
        ) from error


def _prepare(unprepared: SceneBuilder, manual_dir: Folder) -> None:
    manual_dir = _checked_manual_dir(unprepared, manual_dir)
    # TFDS's bars know no totals, so they have no ETA; the builders' own bars do.
    tfds.disable_progress_bar()
    try:
        unprepared.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=manual_dir, try_download_gcs=False
            ),
            file_format="array_record",
        )
    except OSError:
        # The last step renames the finished directory, which fails where another
        # process has prepared the same data set in the meantime.
        if not unprepared.data_path.exists():
            raise
    finally:
        tfds.enable_progress_bar()


def _checked_manual_dir(
    unprepared: SceneBuilder, manual_dir: Folder
) -> epath.Path | None:
    """Returns the folder of a data set's manual files, or None if none is given."""
    if not manual_dir:
        return None
    manual_dir = epath.Path(manual_dir).expanduser()
    missing = [
        f"{name} (SHA-256 {digest} unpacked)"
        for name, digest in unprepared.MANUAL_FILES.items()
        if not (manual_dir / name).exists()
    ]
    if missing:
        raise FileNotFoundError(
            f"{unprepared.info.full_name} needs {', '.join(missing)}, not found in "
            f"manual_dir={os.fspath(manual_dir)!r}. Put them there, or leave "
            "manual_dir out to download them."
        )
    return manual_dir
