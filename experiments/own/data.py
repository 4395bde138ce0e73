"""Reads images of one's own to train on, and fits a config to them.

All images are read and checked before the training starts, and kept in memory with one
bit per value: 100,000 colour images of 64×64 take 150 MB.
"""

import hashlib
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.own import images as own_images
from experiments.own import survey as own_survey
from lavae_jax import warmup
from lavae_jax.config import is_baseline

NAME = "custom"
"""Value of `data.name` in a config whose `data.path` names the images."""

_MIN_SIDE = 8
_MOST_VALID = 5_000
_GLIMPSE, _EXCLUSION = 27, 4  # px, as in the laptop variant of multi-dSprites
_BUMP_SIGMA = 3.0  # px, as there


class PackedImages(Sequence[np.ndarray]):
    """Images [H, W, C] uint8 of values 0 and 255, kept with one bit per value.

    Args:
        bits: [N, ceil(H W C / 8)] uint8, as `np.packbits` gives them for each image.
        image_shape: (H, W, C).
    """

    def __init__(self, bits: np.ndarray, image_shape: tuple[int, int, int]):
        self.bits, self.image_shape = bits, image_shape

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return PackedImages(self.bits[index], self.image_shape)
        lit = np.unpackbits(self.bits[index], count=math.prod(self.image_shape))
        return lit.reshape(self.image_shape) * np.uint8(255)

    @property
    def fingerprint(self) -> str:
        """A digest of the images, wherever and however they are stored."""
        digest = hashlib.sha256(repr((len(self), *self.image_shape)).encode())
        digest.update(np.ascontiguousarray(self.bits))
        return digest.hexdigest()[:16]


class OwnImages(NamedTuple):
    """Images, and how many objects each of them shows if that is known."""

    images: PackedImages
    n: np.ndarray | None  # [N] int32

    def part(self, start: int, stop: int) -> "OwnImages":
        """Returns the images from `start` to before `stop`."""
        n = None if self.n is None else self.n[start:stop]
        return OwnImages(self.images[start:stop], n)


class Fitted(NamedTuple):
    """A config without open values, and remarks on the images for the user."""

    config: ConfigDict
    remarks: tuple[str, ...]


def is_own(config: Mapping[str, Any]) -> bool:
    """Tells whether a config is for own images, not for a named data set."""
    return "path" in config["data"]


def read(config: ConfigDict) -> OwnImages:
    """Reads all images of a config, and applies its threshold if it has one.

    Args:
        config: It has `data.path`, see `own_images.load_images`, `data.threshold`,
            `data.fingerprint` and `model.image_shape`; the last two are compared with
            the images unless they are None.

    Returns:
        The images in order, and the archive's `n`, if any.

    Raises:
        ValueError: If the images can't be read, or are not those of the config.
    """
    data = config.data
    if data.name != NAME or not data.path:
        raise ValueError(
            "this config is for images of your own: give --config.data.path, a folder"
            f" of .png files or an .npz file, and leave data.name={NAME}."
        )
    if not 0 <= data.threshold <= 255:
        raise ValueError(f"data.threshold must be from 0 to 255: got {data.threshold}.")
    path = pathlib.Path(data.path).expanduser()
    shape = _checked_shape(config.model.image_shape or own_images.find_shape(path))
    images = PackedImages(_packed(path, shape, config), shape)
    if data.fingerprint not in (None, images.fingerprint):
        raise ValueError(
            f"{path} no longer holds the images that this run was trained on (their"
            f" data.fingerprint was {data.fingerprint}, now it is"
            f" {images.fingerprint}): put those back."
        )
    return OwnImages(images, own_images.load_counts(path, len(images)))


def _checked_shape(shape):
    if len(shape) != 3 or not all(isinstance(side, int) for side in shape):
        raise ValueError(
            "model.image_shape must be three whole numbers, (rows, columns, channels):"
            f" got {shape!r}."
        )
    height, width, channels = shape
    if channels not in (1, 3) or min(height, width) < _MIN_SIDE:
        raise ValueError(
            f"images are {height} pixels high and {width} wide with {channels}"
            f" channels, but at least {_MIN_SIDE} x {_MIN_SIDE} with 1 (grey) or 3"
            f" (RGB) are expected: arrays are (N, H, W) or (N, H, W, C)."
        )
    return tuple(shape)


def _packed(path, shape, config):
    """Reads the images as bits, [N, ceil(H W C / 8)]."""
    most = own_images.MAX_BYTES // -(-math.prod(shape) // 8)
    try:
        return np.concatenate(
            [
                np.packbits(block.reshape(len(block), -1) > 0, axis=1)
                for block in own_images.read(path, shape, config.data.threshold, most)
            ]
        )
    except ValueError as error:
        if config.model.image_shape or not path.is_dir():
            raise
        raise ValueError(
            f"{error} The first file gave the size {shape} (rows, columns, channels);"
            f" --config.model.image_shape='{shape}' sets another."
        ) from error


def fit(config: ConfigDict, own: OwnImages) -> Fitted:
    """Fills in the values of a config that are None, from its images.

    Lengths are scaled with `model.sprite_size`, γ with log D (Appendix B).

    Args:
        config: A config of own images.
        own: The images that `read` gives for it.

    Returns:
        The config without open values, and remarks on the images.

    Raises:
        ValueError: If the images are not objects on black, are too few, or show more
            objects than the model has slots.
    """
    found = own_survey.survey(own.images)
    own_survey.check(found, config.data.threshold)
    if not is_baseline(config):
        own_survey.check_counts(own.n, config.model.max_objects)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        _fit_data(config, own)
        if not is_baseline(config):
            _fit_lavae(config, found)
    num_train = len(own.images) - config.data.num_valid
    warned = own_survey.warnings(config, found, num_train)
    remarks = (_found(config, found), *(f"warning: {line}" for line in warned))
    return Fitted(config, remarks)


def _fit_data(config, own):
    """Fills in what every model needs."""
    data, num_images = config.data, len(own.images)
    data.path = str(pathlib.Path(data.path).expanduser().absolute())
    data.fingerprint = own.images.fingerprint
    _fill(data, num_valid=min(_MOST_VALID, max(num_images // 10, 1)))
    _fill(config.model, image_shape=own.images.image_shape)
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
    mean = float(found.groups.mean().round(1))
    _fill(
        model,
        sprite_size=found.sprite_size,
        # Proportional to log D, and the paper's 4 at its D = 4096, about ½ log D.
        gamma=math.log2(height * width) / 3,
        objects_per_image=min(max(mean, 0.5), float(model.max_objects)),
    )
    _fill(model, count_threshold=4 * model.gamma)
    _fill(steps, object_size=max(model.sprite_size - 2, 1))
    size = steps.object_size
    _fill(
        model,
        glimpse_size=warmup.scaled_side(_GLIMPSE, size),
        exclusion_radius=round(warmup.scaled(_EXCLUSION, size)),
    )
    _fill(steps, bump_sigma=max(warmup.scaled(_BUMP_SIGMA, size), 1.0))


def _fill(section, **values):
    for name, value in values.items():
        if section[name] is None:
            section[name] = value


def _found(config, found):
    """Writes a line on the images and the values that follow from them."""
    height, width, channels = config.model.image_shape
    line = (
        f"{config.data.path}: images of {height}x{width} in"
        f" {'grey' if channels == 1 else 'colour'}, {found.lit:.1%} of the pixels lit,"
        f" {found.groups.mean():.1f} connected groups of them per image, those with 95%"
        f" of the pixels up to {found.object_size} px"
    )
    if is_baseline(config):
        return line
    names = ("sprite_size", "max_objects", "gamma", "count_threshold", "glimpse_size")
    values = ", ".join(f"{name} {config.model[name]:.4g}" for name in names)
    return f"{line}; {values}"


def parts(config: ConfigDict, own: OwnImages) -> dict[str, OwnImages]:
    """Splits the images: the last `data.num_valid` are held out from training."""
    num_train = len(own.images) - config.data.num_valid
    return {
        "train": own.part(0, num_train),
        "held_out": own.part(num_train, len(own.images)),
    }
