"""Surveys images of one's own, and warns of what speaks against training on them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from lavae_jax.config import is_baseline

_MOST_IMAGES = 2_000
_FITTING = 0.95
_MARGIN = 2
_FEW_IMAGES = 1_000
_MOST_LIT = 0.5
_MOST_BLACK = 0.9
_LOCATION_CONVOLUTIONS = 11


class Survey(NamedTuple):
    """What images show, judged by connected groups of lit pixels.

    A group is taken for an object, although objects may touch or come in pieces.

    Attributes:
        lit: Mean share of an image's pixels that are lit, in any channel.
        black: Share of the images without lit pixels.
        groups: [N] groups in each image.
        sides: [G] the longer side of each group's box, px.
        pixels: [G] lit pixels of each group.
        grey: Whether all channels are equal everywhere.
    """

    lit: float
    black: float
    groups: np.ndarray
    sides: np.ndarray
    pixels: np.ndarray
    grey: bool

    @property
    def object_size(self) -> int:
        """The longest side of the groups that hold 95% of the lit pixels.

        Neither specks nor a few objects that touch change it.
        """
        order = np.argsort(self.sides)
        pixels = np.cumsum(self.pixels[order])
        index = np.searchsorted(pixels, _FITTING * pixels[-1])
        return int(self.sides[order][index])

    @property
    def sprite_size(self) -> int:
        """A side for sprites that hold these groups: odd, with a margin of a pixel.

        For the scenes of multi-dSprites this gives the paper's 21.
        """
        return self.object_size + _MARGIN | 1

    def too_large_for(self, sprite_size: int) -> float:
        """Returns the share of lit pixels in groups too large for a sprite."""
        return float(self.pixels[self.sides > sprite_size].sum() / self.pixels.sum())


def survey(images: Sequence[np.ndarray]) -> Survey:
    """Surveys images [H, W, C]; of more than 2,000 it takes 2,000 at even distances."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), _MOST_IMAGES)).astype(int)
    lit, groups, sides, pixels, grey = [], [], [0], [0], True
    for index in chosen:
        image = images[index]
        mask = image.any(axis=-1)
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        boxes = ndimage.find_objects(labels)
        lit.append(mask.mean())
        groups.append(count)
        sides += [max(s.stop - s.start for s in box) for box in boxes]
        pixels += list(np.bincount(labels.ravel())[1:])
        grey = grey and bool((image == image[..., :1]).all())
    return Survey(
        lit=float(np.mean(lit)),
        black=float(np.mean(np.array(lit) == 0)),
        groups=np.array(groups),
        sides=np.array(sides),
        pixels=np.array(pixels),
        grey=grey,
    )


def check(found: Survey, threshold: int) -> None:
    """Refuses images that are not objects on black.

    Args:
        found: What the images show.
        threshold: The threshold they were binarised with; 0 for none.

    Raises:
        ValueError: If the images are black, or mostly lit; it says what to do.
    """
    if found.black == 1:
        below = f" No value reaches data.threshold = {threshold}." * (threshold > 0)
        raise ValueError(
            f"all {len(found.groups)} images looked at are black, so there is nothing"
            f" to learn.{below} Objects are lit pixels on a black background."
        )
    if found.lit > _MOST_LIT:
        raise ValueError(
            f"{found.lit:.0%} of the pixels are lit, but objects on a black background"
            " are expected: images of dark objects on white have to be inverted,"
            " others need another data.threshold."
        )


def check_counts(n: np.ndarray | None, max_objects: int) -> None:
    """Refuses images with more objects than a model has slots.

    Args:
        n: True numbers of objects, or None if they are unknown.
        max_objects: M.

    Raises:
        ValueError: If an image has more objects; it says what to set.
    """
    if n is not None and n.max() > max_objects:
        raise ValueError(
            f"{(n > max_objects).mean():.1%} of the images have more objects by their n"
            f" than model.max_objects = {max_objects}, up to {n.max()}, and f_count"
            f" never counts more: set --config.model.max_objects={n.max()}."
        )


def warnings(config: ConfigDict, found: Survey, num_train: int) -> Iterator[str]:
    """Warns of what may be amiss, with the numbers, and says what to do.

    Args:
        config: A run's config, fitted to the images.
        found: What the images show.
        num_train: How many images are trained on.

    Returns:
        An iterator over sentences.
    """
    if num_train < _FEW_IMAGES:
        yield (
            f"{num_train} images to train on are few: watch the ELBO of the held-out"
            " ones, which falls when the others are learned by heart."
        )
    if found.black > _MOST_BLACK:
        yield f"{found.black:.0%} of the images are black: is data.threshold too high?"
    if found.grey and config.model.image_shape[2] == 3:
        height, width, _ = config.model.image_shape
        yield (
            "all colours are grey: store the images in grey, or read files so with"
            f" --config.model.image_shape='({height}, {width}, 1)'."
        )
    if not is_baseline(config):
        yield from _of_objects(config, found)


def _of_objects(config, found):
    """Warns of sizes and numbers of objects that do not fit the model."""
    model = config.model
    size, suitable = model.sprite_size, found.sprite_size
    if found.too_large_for(size) > 1 - _FITTING:
        yield (
            f"{found.too_large_for(size):.0%} of the lit pixels are in connected groups"
            f" larger than model.sprite_size = {size}, up to {found.sides.max()} px. An"
            " object that does not fit is not painted as one: unless these are"
            f" objects that touch, set --config.model.sprite_size={suitable}."
        )
    if 2 * size > min(model.image_shape[:2]):
        yield (
            f"sprites of model.sprite_size = {size} px cover most of an image: LAVAE is"
            " for several smaller objects. If it is objects that touch which made the"
            " size, set that of a single one, with a margin of a pixel."
        )
    seen = (2 * _LOCATION_CONVOLUTIONS + 1) * model.stem_stride
    if size > seen:
        yield (
            f"the network of h_loc sees {seen} px around a site, less than"
            f" model.sprite_size = {size}: set"
            f" --config.model.stem_stride={2 * model.stem_stride}."
        )
    groups, most = found.groups, model.max_objects
    if groups.max() > most:
        yield (
            f"{(groups > most).mean():.1%} of the images have more connected groups of"
            f" lit pixels than model.max_objects = {most}, up to {groups.max()}: unless"
            f" these are specks, set --config.model.max_objects={groups.max()}."
        )
