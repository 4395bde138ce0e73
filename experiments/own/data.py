"""Fits a config to the user's own images, and warns of problems with them.

All images are read and checked before the training starts, and kept in memory: 100,000
colour images of 64×64 take 1.2 GB.
"""

import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from datasets import scenes
from experiments.own import crops, survey
from experiments.own import images as own_images
from lavae_jax import warmup
from lavae_jax.config import is_baseline

NAME = "custom"
"""Value of `data.name` in a config whose `data.path` names the images."""

_SEED = 4
_MOST_VALID = 5_000
_EXCLUSION = 4  # px, as in the laptop variant of multi-dSprites
_FEW_IMAGES = 1_000
_LOCATION_CONVOLUTIONS = 11


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
        if not data.threshold >= 0:
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
    return own_images.Values(levels=tuple(map(float, levels)))


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


def fit(config: ConfigDict, own: CountedImages) -> tuple[ConfigDict, tuple[str, ...]]:
    """Fills in the values of a config that are None, from the images that it names.

    Lengths are scaled with `model.sprite_size`, γ with log D (Appendix B).

    Returns:
        The config with all values set, and remarks on the images for the user.
    """
    found = None
    if is_binary(config):
        found = survey.survey_images(own.images)
        survey.check(found)
    _check_counts(config, own)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        _fit_data(config, own)
        if not is_baseline(config):
            _fit_lavae(config, found)
    warned = _warnings(config, found, len(own.images) - config.data.num_valid)
    remarks = (_summary(config, found), *(f"warning: {line}" for line in warned))
    return config, remarks


def _check_counts(config, own):
    """Refuses images with more objects than the model can count."""
    if is_baseline(config) or own.n is None:
        return
    n, most = own.n, config.model.max_objects
    if n.max() > most:
        raise ValueError(
            f"{(n > most).mean():.1%} of the images have more objects by their n than"
            f" model.max_objects = {most}, up to {n.max()}, and f_count never counts"
            f" more: set --config.model.max_objects={n.max()}."
        )


def _fit_data(config, own):
    """Fills in what every model needs."""
    data, num_images = config.data, len(own.images)
    data.path = str(pathlib.Path(data.path).expanduser().absolute())
    data.fingerprint = own_images.fingerprint(own.images)
    _fill(data, num_valid=min(_MOST_VALID, max(num_images // 10, 1)))
    if not is_binary(config):
        data.levels = values_of(config).levels
    _fill(config.model, image_shape=own.images.shape[1:])
    config.num_eval_images = min(config.num_eval_images, data.num_valid)
    if data.num_valid < 1 or num_images - data.num_valid < config.batch_size:
        raise ValueError(
            f"{num_images} images are too few for data.num_valid = {data.num_valid}"
            f" held out (at least 1) and a batch_size of {config.batch_size} from the"
            " others: give more images, or lower these."
        )


def _fit_lavae(config, found):
    model, steps = config.model, config.warmup
    height, width, _ = model.image_shape
    if found is not None:
        _fill(model, sprite_size=found.sprite_size)
        mean = float(found.groups.mean().round(1)) * (1 + config.elbo.superpose)
    elif model.sprite_size is None:
        raise ValueError(
            "model.sprite_size is not set: set it to an odd number of pixels that holds"
            " the largest object and a margin, such as --config.model.sprite_size=21."
        )
    else:
        mean = model.max_objects / 2
    _fill(
        model,
        # It grows with log D, and is the paper's 4, about ½ log D, at D = 4096.
        gamma=math.log2(height * width) / 3,
        objects_per_image=min(max(mean, 0.5), float(model.max_objects)),
    )
    _fill(model, count_threshold=4 * model.gamma)
    _fill(steps, object_size=max(model.sprite_size - 2, 1))
    size = steps.object_size
    radius = round(warmup.scaled(_EXCLUSION, size))
    if model.exclusion_radius is None:
        config.elbo.apart_radius = radius
    _fill(model, glimpse_size=model.sprite_size, exclusion_radius=radius)


def _fill(section, **values):
    for name, value in values.items():
        if section[name] is None:
            section[name] = value


def _summary(config, found):
    """Writes a line on the images and the values that follow from them."""
    height, width, channels = config.model.image_shape
    parts = [f"images of {height}x{width} in {'grey' if channels == 1 else 'colour'}"]
    if found is not None:
        parts.append(survey.describe(found))
    else:
        parts.append("pixels from {:g} to {:g}".format(*config.data.levels))
    line = f"{config.data.path}: {', '.join(parts)}"
    if is_baseline(config):
        return line
    names = ("sprite_size", "max_objects", "gamma", "count_threshold", "glimpse_size")
    values = ", ".join(f"{name} {config.model[name]:.4g}" for name in names)
    return f"{line}; {values}"


def _warnings(config, found, num_train) -> Iterator[str]:
    """Yields warnings of likely problems, with numbers and advice."""
    if num_train < _FEW_IMAGES:
        yield (
            f"{num_train} images to train on are few: watch the ELBO of the held-out"
            " ones, which falls when the model overfits."
        )
    if config.data.get("crop"):
        yield (
            "held-out crops are cut from the same images as the others and overlap"
            " them: their ELBO does not show whether the model overfits."
        )
    if is_baseline(config):
        return
    model = config.model
    receptive_field = (2 * _LOCATION_CONVOLUTIONS + 1) * model.stem_stride
    if model.sprite_size > receptive_field:
        yield (
            f"the network of h_loc sees {receptive_field} px around a site, less than"
            f" model.sprite_size = {model.sprite_size}: set"
            f" --config.model.stem_stride={2 * model.stem_stride}."
        )
    if found is not None:
        yield from survey.warnings(model, found)
