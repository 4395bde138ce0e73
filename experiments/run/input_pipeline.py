"""From a data set to batches: shuffled, sharded by process, resumable."""

from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np
from ml_collections import ConfigDict

from datasets import load
from experiments import cli
from experiments.own import data as own_data

# Enough to read ahead of a training step without taking the cores it runs on.
_READ_AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


class HeldOut(NamedTuple):
    """Scenes that are never trained on, with what is true of them."""

    images: np.ndarray
    """[N, H, W, C] uint8, 0 or 255."""
    n: np.ndarray | None
    """[N] int32 numbers of objects; None where they are not known."""


class Data(NamedTuple):
    """What a run reads."""

    train: Sequence[np.ndarray]
    """Images to train on: uint8 [H, W, C], 0 or 255."""
    held_out: HeldOut


class Prepared(NamedTuple):
    """A run's config without open values."""

    config: ConfigDict
    data: Data | None
    """What the run reads, where it had to be read for the config."""
    remarks: tuple[str, ...]
    """What the user should know of it."""


def prepare(config: ConfigDict) -> Prepared:
    """Makes sure that model and data fit, before anything long is done.

    The config of a named data set says all; images of one's own are read, and fill in
    what theirs leaves open.

    Args:
        config: A run's config.

    Returns:
        The config to go on with, and images that have been read for it.

    Raises:
        cli.UserError: If model and data do not fit, or own images can't be trained on.
    """
    if not own_data.is_own(config):
        check_fit(config)
        _check_held_out(config)
        return Prepared(config, None, ())
    with cli.user_errors(ValueError, OSError):
        own = own_data.read(config)
        config, remarks = own_data.fit(config, own)
    _check_held_out(config)
    return Prepared(config, _own(config, own), remarks)


def _own(config, own):
    """What a run reads of own images."""
    parts = own_data.parts(config, own)
    held_out = parts["held_out"].part(0, config.num_eval_images)
    return Data(
        parts["train"].images, HeldOut(np.stack(list(held_out.images)), held_out.n)
    )


def load_data(config: ConfigDict) -> Data:
    """Opens a run's data set, which is generated first if need be.

    The last `data.num_valid` scenes of the train split are never trained on; the first
    `num_eval_images` of them are the held-out ones.

    Args:
        config: Has `data.name`, `data.data_dir` and `data.manual_dir` (empty for the
            defaults of `datasets.load`), `data.num_valid` and `num_eval_images`. Of own
            images, one that `prepare` has given.

    Returns:
        The images to train on, read as they are asked for, and the held-out scenes.

    Raises:
        cli.UserError: If there is no such data set, it can't be made, or is too small.
    """
    _check_held_out(config)
    data = config.data
    if own_data.is_own(config):
        with cli.user_errors(ValueError, OSError):
            return _own(config, own_data.read(config))
    folders = (data.data_dir or None, data.manual_dir or None)
    with cli.user_errors(ValueError, OSError):
        num_train = load.train_split(data.name).num_examples - data.num_valid
        last = num_train + config.num_eval_images
        train = load.images(data.name, f"train[:{num_train}]", *folders)
        scenes = load.data_source(data.name, f"train[{num_train}:{last}]", *folders)
        examples = [scenes[index] for index in range(len(scenes))]
    held_out = HeldOut(
        images=np.stack([example["image"] for example in examples]),
        n=np.stack([example["n"] for example in examples]).astype(np.int32),
    )
    return Data(train, held_out)


def _check_held_out(config):
    """Refuses shares of the data that can't be held out, which need not exist yet."""
    num_valid = config.data.num_valid
    if not 0 < config.num_eval_images <= num_valid:
        raise cli.UserError(
            f"num_eval_images must be from 1 to data.num_valid = {num_valid}, the"
            f" scenes held out from training: got {config.num_eval_images}."
        )
    if own_data.is_own(config):
        return
    with cli.user_errors(ValueError):
        num_scenes = load.train_split(config.data.name).num_examples
    if num_valid >= num_scenes:
        raise cli.UserError(
            f"data.num_valid = {num_valid} leaves nothing to train on:"
            f" {config.data.name} has {num_scenes} train scenes."
        )


def check_fit(config: ConfigDict) -> None:
    """Refuses a model for other scenes, before a data set is generated.

    Args:
        config: `data.name` is compared with `model.image_shape` and, of LAVAE,
            `model.max_objects`.

    Raises:
        cli.UserError: If they do not fit, or there is no such data set.
    """
    name, wanted = config.data.name, tuple(config.model.image_shape)
    with cli.user_errors(ValueError):
        shape, counts = load.image_shape(name), load.train_split(name).counts
    if shape != wanted:
        raise cli.UserError(
            f"data.name={name} has images of {shape}, model.image_shape is {wanted}:"
            " take the config of this data set."
        )
    if config.model.get("max_objects", max(counts)) < max(counts):
        raise cli.UserError(
            f"data.name={name} has scenes with {max(counts)} objects, and f_count never"
            f" counts more than model.max_objects={config.model.max_objects}: raise it."
        )


def batches(
    images: Sequence[np.ndarray],
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Batches without end, every epoch in an order of its own.

    Which images are in batch k depends on the seed and k alone: the parts of the
    processes, one after the other, are the batch that one process would get.

    Args:
        images: uint8 [H, W, C] each.
        batch_size: Images per step, of all processes together.
        seed: Gives the orders.
        process_index: This process, from 0.
        process_count: Number of processes.

    Returns:
        An iterator over uint8 [batch_size / process_count, H, W, C]. Its `get_state` is
        a small dictionary for JSON, and after `set_state` it goes on from there.

    Raises:
        ValueError: If the batch can't be shared evenly.
    """
    share, rest = divmod(batch_size, process_count)
    if rest or share < 1:
        raise ValueError(
            f"batch_size must be a multiple of the {process_count} processes: got"
            f" {batch_size}."
        )
    stream = grain.MapDataset.source(images).shuffle(seed=seed).repeat()
    part = stream.batch(share)[process_index::process_count]
    return iter(part.to_iter_dataset(_READ_AHEAD))
