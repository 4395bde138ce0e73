"""Fits a config to the user's own images, and warns of problems with them.

All images are read and checked before the training starts, and kept in memory: 100,000
colour images of 64×64 take 1.2 GB.
"""

import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from datasets import scenes
from experiments.own import images as own_images
from lavae_jax import warmup
from lavae_jax.config import is_baseline

NAME = "custom"
"""Value of `data.name` in a config whose `data.path` names the images."""

_SEED = 4
_MOST_VALID = 5_000
_EXCLUSION = 4  # px, as in the laptop variant of multi-dSprites
_MOST_SURVEYED = 2_000
_FITTING = 0.95
_MARGIN = 2
_FEW_IMAGES = 1_000
_MOST_LIT = 0.5
_LOCATION_CONVOLUTIONS = 11


class CountedImages(NamedTuple):
    """Images, and how many objects each of them shows if that is known."""

    images: np.ndarray  # [N, H, W, C] uint8 of 0 and 255
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
    if not data.threshold >= 0:
        raise ValueError(f"data.threshold must be at least 0: got {data.threshold}.")
    path = pathlib.Path(data.path).expanduser()
    shape = config.model.image_shape and tuple(config.model.image_shape)
    if shape is not None:
        own_images.check_shape(shape)
    images = own_images.load_images(path, shape, data.threshold)
    fingerprint = own_images.fingerprint(images)
    if data.fingerprint not in (None, fingerprint):
        raise ValueError(
            f"{path} no longer holds the images that this run was trained on (their"
            f" data.fingerprint was {data.fingerprint}, now it is {fingerprint}): put"
            " those back."
        )
    truth = own_images.load_truth(path, images.shape)
    return CountedImages(images, truth and truth.n)


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


class Survey(NamedTuple):
    """Describes images by their connected groups of lit pixels.

    A group is taken for an object, although objects may touch or come in pieces.
    """

    lit: float  # mean share of an image's pixels that are lit, in any channel
    groups: np.ndarray  # [N] groups in each image
    sides: np.ndarray  # [G] the longer side of each group's box, px
    pixels: np.ndarray  # [G] lit pixels of each group

    @property
    def object_size(self) -> int:
        """Returns the longest side of the groups that hold 95% of the lit pixels.

        Neither specks nor a few objects that touch change it.
        """
        order = np.argsort(self.sides)
        pixels = np.cumsum(self.pixels[order])
        index = np.searchsorted(pixels, _FITTING * pixels[-1])
        return int(self.sides[order][index])

    @property
    def sprite_size(self) -> int:
        """Returns an odd side for sprites that hold these groups and a margin.

        For the scenes of multi-dSprites this gives the paper's 21.
        """
        return self.object_size + _MARGIN | 1


def survey_images(images: Sequence[np.ndarray]) -> Survey:
    """Surveys images [H, W, C]; of more than 2,000 it takes 2,000 at even distances."""
    num = min(len(images), _MOST_SURVEYED)
    lit, groups, sides, pixels = [], [], [0], [0]
    for index in np.linspace(0, len(images) - 1, num).astype(int):
        mask = images[index].any(axis=-1)
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        boxes = ndimage.find_objects(labels)
        lit.append(mask.mean())
        groups.append(count)
        sides += [max(s.stop - s.start for s in box) for box in boxes]
        pixels += list(np.bincount(labels.ravel())[1:])
    return Survey(
        float(np.mean(lit)), np.array(groups), np.array(sides), np.array(pixels)
    )


def fit(config: ConfigDict, own: CountedImages) -> tuple[ConfigDict, tuple[str, ...]]:
    """Fills in the values of a config that are None, from the images that it names.

    Lengths are scaled with `model.sprite_size`, γ with log D (Appendix B).

    Returns:
        The config with all values set, and remarks on the images for the user.
    """
    survey = survey_images(own.images)
    _check(config, own, survey)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        _fit_data(config, own)
        if not is_baseline(config):
            _fit_lavae(config, survey)
    num_train = len(own.images) - config.data.num_valid
    warned = _warnings(config, survey, num_train)
    remarks = (_summary(config, survey), *(f"warning: {line}" for line in warned))
    return config, remarks


def _check(config, own, survey):
    """Refuses images that are not objects on black, or show too many of them."""
    if not survey.lit:
        raise ValueError(
            f"all {len(survey.groups)} images looked at are black, so there is nothing"
            " to learn: objects are lit pixels on a black background, from"
            " data.threshold on where one is set."
        )
    if survey.lit > _MOST_LIT:
        raise ValueError(
            f"{survey.lit:.0%} of the pixels are lit, but objects on a black background"
            " are expected: images of dark objects on white have to be inverted,"
            " others need another data.threshold."
        )
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
    _fill(config.model, image_shape=own.images.shape[1:])
    config.num_eval_images = min(config.num_eval_images, data.num_valid)
    if data.num_valid < 1 or num_images - data.num_valid < config.batch_size:
        raise ValueError(
            f"{num_images} images are too few for data.num_valid = {data.num_valid}"
            f" held out (at least 1) and a batch_size of {config.batch_size} from the"
            " others: give more images, or lower these."
        )


def _fit_lavae(config, survey):
    model, steps = config.model, config.warmup
    height, width, _ = model.image_shape
    mean = float(survey.groups.mean().round(1)) * (1 + config.elbo.superpose)
    _fill(
        model,
        sprite_size=survey.sprite_size,
        # It grows with log D, and is the paper's 4, about ½ log D, at D = 4096.
        gamma=math.log2(height * width) / 3,
        objects_per_image=min(max(mean, 0.5), float(model.max_objects)),
    )
    _fill(model, count_threshold=4 * model.gamma)
    _fill(steps, object_size=max(model.sprite_size - 2, 1))
    size = steps.object_size
    radius = round(warmup.scaled(_EXCLUSION, size))
    _fill(model, glimpse_size=model.sprite_size, exclusion_radius=radius)


def _fill(section, **values):
    for name, value in values.items():
        if section[name] is None:
            section[name] = value


def _summary(config, survey):
    """Writes a line on the images and the values that follow from them."""
    height, width, channels = config.model.image_shape
    line = (
        f"{config.data.path}: images of {height}x{width} in"
        f" {'grey' if channels == 1 else 'colour'}, {survey.lit:.1%} of the pixels"
        f" lit, {survey.groups.mean():.1f} connected groups of them per image, those"
        f" with 95% of the pixels up to {survey.object_size} px"
    )
    if is_baseline(config):
        return line
    names = ("sprite_size", "max_objects", "gamma", "count_threshold", "glimpse_size")
    values = ", ".join(f"{name} {config.model[name]:.4g}" for name in names)
    return f"{line}; {values}"


def _warnings(config, survey, num_train) -> Iterator[str]:
    """Yields warnings of likely problems, with numbers and advice."""
    if num_train < _FEW_IMAGES:
        yield (
            f"{num_train} images to train on are few: watch the ELBO of the held-out"
            " ones, which falls when the model overfits."
        )
    if is_baseline(config):
        return
    model, groups = config.model, survey.groups
    size, suitable = model.sprite_size, survey.sprite_size
    too_large = survey.pixels[survey.sides > size].sum() / survey.pixels.sum()
    if too_large > 1 - _FITTING:
        yield (
            f"{too_large:.0%} of the lit pixels are in connected groups larger than"
            f" model.sprite_size = {size}, up to {survey.sides.max()} px. An object"
            " that does not fit is not painted as one: unless these are objects that"
            f" touch, set --config.model.sprite_size={suitable}."
        )
    receptive_field = (2 * _LOCATION_CONVOLUTIONS + 1) * model.stem_stride
    if size > receptive_field:
        yield (
            f"the network of h_loc sees {receptive_field} px around a site, less than"
            f" model.sprite_size = {size}: set"
            f" --config.model.stem_stride={2 * model.stem_stride}."
        )
    if groups.max() > model.max_objects:
        yield (
            f"{(groups > model.max_objects).mean():.1%} of the images have more"
            " connected groups of lit pixels than model.max_objects ="
            f" {model.max_objects}, up to {groups.max()}: unless these are specks, set"
            f" --config.model.max_objects={groups.max()}."
        )
