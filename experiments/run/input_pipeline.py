"""Makes batches of a data set: shuffled, sharded by process, resumable."""

from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np
from ml_collections import ConfigDict

from datasets import load
from experiments import cli
from experiments.measure import measure
from experiments.own import data as own_data
from experiments.own import fit

# These read ahead of a training step without taking the cores that it runs on.
_READ_AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


class Data(NamedTuple):
    """Holds the images that a run reads."""

    train: Sequence[np.ndarray]  # uint8 [H, W, C]
    held_out: own_data.CountedImages  # scenes that are never trained on


class Prepared(NamedTuple):
    """A run's config with all values set."""

    config: ConfigDict
    data: Data | None  # what the run reads, where it had to be read for the config
    remarks: tuple[str, ...]  # on the images, for the user


def prepare(config: ConfigDict) -> Prepared:
    """Makes sure that model and data fit, before anything long is done.

    The config of a named data set is complete. The user's own images are read, and set
    the values that are None in their config.
    """
    data, remarks = None, ()
    if own_data.is_own(config):
        with cli.user_errors(ValueError, OSError):
            own = own_data.read(config)
            config, remarks = fit.fit(config, own)
        data = _split_own(config, own)
    else:
        _check_named(config)
    num_valid = config.data.num_valid
    if not 0 < config.num_eval_images <= num_valid:
        raise cli.UserError(
            f"num_eval_images must be from 1 to data.num_valid = {num_valid}, the"
            f" scenes held out from training: got {config.num_eval_images}."
        )
    return Prepared(config, data, remarks)


def _check_named(config):
    """Refuses a model or held-out scenes that do not fit a named data set.

    The data set need not have been generated yet.
    """
    name, wanted = config.data.name, tuple(config.model.image_shape)
    with cli.user_errors(ValueError):
        shape, train = load.image_shape(name), load.splits(name)["train"]
    if shape != wanted:
        raise cli.UserError(
            f"data.name={name} has images of {shape}, model.image_shape is {wanted}:"
            " take the config of this data set."
        )
    if own_data.is_binary(config) and not load.is_binary(name):
        raise cli.UserError(
            f"the pixels of data.name={name} have many values, but the model takes"
            " binary ones: take the config coloured.py."
        )
    most = max(train.counts)
    if config.model.get("max_objects", most) < most:
        raise cli.UserError(
            f"data.name={name} has scenes with {most} objects, and f_count never"
            f" counts more than model.max_objects={config.model.max_objects}: raise it."
        )
    if config.data.num_valid >= train.num_examples:
        raise cli.UserError(
            f"data.num_valid = {config.data.num_valid} leaves nothing to train on:"
            f" {name} has {train.num_examples} train scenes."
        )


def _split_own(config, own):
    train, held_out = own_data.split(config, own)
    return Data(train.images, held_out.take(np.arange(config.num_eval_images)))


def load_data(config: ConfigDict) -> Data:
    """Opens the data set of a prepared config, which is generated first if need be.

    The last `data.num_valid` scenes of the train split are never trained on; the first
    `num_eval_images` of them are the held-out ones. Images to train on are read when
    they are needed. What can't be made or read raises a `cli.UserError`.
    """
    data = config.data
    if own_data.is_own(config):
        with cli.user_errors(ValueError, OSError):
            return _split_own(config, own_data.read(config))
    folders = (data.data_dir, data.manual_dir)
    with cli.user_errors(ValueError, OSError):
        num_train = load.splits(data.name)["train"].num_examples - data.num_valid
        last = num_train + config.num_eval_images
        train = load.images(data.name, f"train[:{num_train}]", *folders)
        held_out = f"train[{num_train}:{last}]"
        scenes = measure.read_split(data.name, held_out, folders, None)
    n = scenes.truth.n.astype(np.int32)
    return Data(train, own_data.CountedImages(scenes.images, n))


def batches(
    images: Sequence[np.ndarray],
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Makes endless batches of uint8 images [H, W, C], each epoch in its own order.

    Which images are in batch k depends on the seed and k alone: the parts of the
    processes, one after the other, are the batch that one process would get.

    Returns:
        An iterator over uint8 [batch_size / process_count, H, W, C]. Its `get_state` is
        a small dictionary for JSON, and after `set_state` it continues there.
    """
    stream = grain.MapDataset.source(images).shuffle(seed=seed).repeat()
    part = stream.batch(batch_size // process_count)[process_index::process_count]
    return iter(part.to_iter_dataset(_READ_AHEAD))
