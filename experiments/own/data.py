"""Reads the user's own images as a config says, and splits them.

All images are read and checked before the training starts, and kept in memory: 100,000
colour images of 64×64 take 1.2 GB.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from datasets import scenes
from experiments.own import crops
from experiments.own import images as own_images

NAME = "custom"
"""Value of `data.name` in a config whose `data.path` names the images."""

_SEED = 4


class CountedImages(NamedTuple):
    """Images, and how many objects each of them shows if that is known."""

    images: np.ndarray  # [N, H, W, C] uint8
    n: np.ndarray | None  # [N] int32

    def take(self, indices: np.ndarray) -> "CountedImages":
        """Returns some of the images."""
        return CountedImages(
            self.images[indices], None if self.n is None else self.n[indices]
        )


def is_own(config: Mapping[str, Any]) -> bool:
    """Tells whether a config is for the user's own images, not a named data set."""
    return "path" in config["data"]


def read(config: ConfigDict) -> CountedImages:
    """Reads all images of a config, and the numbers of objects if an archive has them.

    `data.fingerprint` and `model.image_shape` of the config are compared with the
    images unless they are None.
    """
    data = config.data
    if data.name != NAME or not data.path:
        raise ValueError(
            "this config is for images of your own: give --config.data.path, a folder"
            f" of pictures or a file of many, and leave data.name={NAME}."
        )
    path = _path(config)
    shape = config.model.image_shape and tuple(config.model.image_shape)
    if shape is not None:
        own_images.check_shape(shape)
    if data.get("crop"):
        images = _read_crops(data, path, shape, values_of(config))
    elif data.get("turned") or data.get("varied"):
        raise ValueError(
            "data.turned and data.varied are for crops: set data.crop too, the side of"
            " the squares that are cut from the images, or leave them out."
        )
    else:
        images = own_images.load_images(path, shape, values_of(config), _most(data))
    fingerprint = own_images.fingerprint(images)
    if data.fingerprint not in (None, fingerprint):
        raise ValueError(
            f"{path} no longer holds the images that this run was trained on (their"
            f" data.fingerprint was {data.fingerprint}, now it is {fingerprint}): put"
            " those back."
        )
    truth = load_truth(config, images)
    return CountedImages(images, truth and truth.n)


def _read_crops(data, path, shape, values):
    if data.crop < own_images.MIN_SIDE or data.num_crops < 1:
        raise ValueError(
            f"data.crop must be at least {own_images.MIN_SIDE} and data.num_crops at"
            f" least 1: got {data.crop} and {data.num_crops}."
        )
    how = crops.Crops(data.crop, data.num_crops, data.turned, data.get("varied", False))
    if how.varied and values.levels is None:
        raise ValueError(
            "data.varied interpolates between pixels, but the model takes binary ones:"
            " set data.varied=False, or take custom_grey.py."
        )
    if shape is not None and tuple(shape[:2]) != (data.crop, data.crop):
        raise ValueError(
            f"model.image_shape is {shape}, but crops are {data.crop} x {data.crop}:"
            " leave one of model.image_shape and data.crop out."
        )
    return crops.load(path, how, shape and shape[2], values)


def load_truth(config: ConfigDict, images: np.ndarray) -> own_images.Truth | None:
    """Returns what a config's file says about the objects of its images, if anything.

    It says nothing about crops of them.
    """
    if config.data.get("crop"):
        return None
    return own_images.load_truth(_path(config), images.shape, _most(config.data))


def _most(data):
    """Returns how many images are read at most; None for all."""
    if data.get("num_images", 0) < 0:
        raise ValueError(
            f"data.num_images must be at least 0, for all images: got"
            f" {data.num_images}."
        )
    return data.get("num_images") or None


def _path(config):
    return pathlib.Path(config.data.path).expanduser()


def is_binary(config: Mapping[str, Any]) -> bool:
    """Tells whether a config's model takes images of binary pixels."""
    return config["model"].get("pixels", "bernoulli") == "bernoulli"


def values_of(config: ConfigDict) -> own_images.Values:
    """Returns how the user's images become those that the model of a config takes.

    A config of a named data set, whose images have 8 bits, says nothing about it.
    """
    data = config.data
    if not is_own(config):
        levels = None if is_binary(config) else (0.0, 255.0)
        return own_images.Values(levels=levels, only_8_bit=levels is not None)
    if is_binary(config):
        if not 0 <= data.threshold < math.inf:
            raise ValueError(
                f"data.threshold must be at least 0: got {data.threshold}."
            )
        return own_images.Values(threshold=data.threshold)
    levels = data.levels or own_images.find_levels(_path(config), _most(data))
    if len(levels) != 2 or not -math.inf < levels[0] < levels[1] < math.inf:
        raise ValueError(
            "data.levels must be two numbers, the values of black and of white, the"
            f" first one smaller: got {levels}."
        )
    # Levels that were found are 0 and 255 for 8-bit images alone. A run stores them.
    is_8_bit = data.get("only_8_bit")
    if is_8_bit is None:
        is_8_bit = data.levels is None and tuple(levels) == (0.0, 255.0)
    black_and_white = tuple(map(float, levels))
    return own_images.Values(levels=black_and_white, only_8_bit=is_8_bit)


def split(
    config: ConfigDict, own: CountedImages
) -> tuple[CountedImages, CountedImages]:
    """Splits images: those to train on, and `data.num_valid` that are held out."""
    held_out = held_out_indices(config, len(own.images))
    train = np.setdiff1d(np.arange(len(own.images)), held_out)
    return own.take(train), own.take(held_out)


def held_out_indices(config: ConfigDict, num_images: int) -> np.ndarray:
    """Returns which images are held out, in order: the same ones in every run.

    They are chosen at random, as images that follow each other are often alike.
    """
    chosen = scenes.permutation(num_images, _SEED)[: config.data.num_valid]
    return np.sort(chosen)
