"""Fits a config to the user's own images, and warns of problems with them."""

import math
import pathlib
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from experiments.own import data as own_data
from experiments.own import images as own_images
from experiments.own import survey
from lavae_jax import warmup
from lavae_jax.config import is_baseline

_MOST_VALID = 5_000
_EXCLUSION = 4  # px, as in the laptop variant of multi-dSprites
_FEW_IMAGES = 1_000
_LITTLE_CONTRAST = 13  # of 255
_LOCATION_CONVOLUTIONS = 11


def fit(
    config: ConfigDict, own: own_data.CountedImages
) -> tuple[ConfigDict, tuple[str, ...]]:
    """Fills in the values of a config that are None, from the images that it names.

    Lengths are scaled with `model.sprite_size`, γ with log D (Appendix B).

    Returns:
        The config with all values set, and remarks on the images for the user.
    """
    found = None
    if own_data.is_binary(config):
        found = survey.survey_images(own.images)
        survey.check(found)
    elif not np.ptp(own.images):
        raise ValueError(
            f"all pixels of {config.data.path} have one value between black and white,"
            " so there is nothing to learn: correct data.levels, the values of black"
            " and of white, or leave them out."
        )
    _check_counts(config, own)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        _fit_data(config, own)
        if not is_baseline(config):
            _fit_lavae(config, found)
    warned = _warnings(config, found, own.images)
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
    if not own_data.is_binary(config):
        values = own_data.values_of(config)
        data.update(levels=values.levels, only_8_bit=values.only_8_bit)
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


def _warnings(config, found, images) -> Iterator[str]:
    """Yields warnings of likely problems, with numbers and advice."""
    if found is None and np.ptp(images) < _LITTLE_CONTRAST:
        yield (
            f"the pixels are at {images.min() / 255:.1%} to {images.max() / 255:.1%} of"
            " the way from black to white: give the values that are black and white"
            " here, --config.data.levels=LOW,HIGH."
        )
    num_train = len(images) - config.data.num_valid
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
