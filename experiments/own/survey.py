"""Looks at images of binary pixels for the sizes of their objects, and for problems."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

_MOST_SURVEYED = 2_000
_FITTING = 0.95
_MARGIN = 2
MOST_LIT = 0.5


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


def check(survey: Survey) -> None:
    """Refuses images that are not objects on black, or show too many of them."""
    if not survey.lit:
        raise ValueError(
            f"all {len(survey.groups)} images looked at are black, so there is nothing"
            " to learn: objects are lit pixels on a black background, from"
            " data.threshold on where one is set."
        )
    if survey.lit > MOST_LIT:
        raise ValueError(
            f"{survey.lit:.0%} of the pixels are lit, but objects on a black background"
            " are expected: images of dark objects on white have to be inverted,"
            " others need another data.threshold."
        )


def describe(survey: Survey) -> str:
    """Writes what was found, as a part of a sentence."""
    return (
        f"{survey.lit:.1%} of the pixels lit, {survey.groups.mean():.1f} connected"
        " groups of them per image, those with 95% of the pixels up to"
        f" {survey.object_size} px"
    )


def warnings(model: ConfigDict, survey: Survey) -> Iterator[str]:
    """Yields warnings of objects that do not fit the values of LAVAE's config."""
    groups, size, suitable = survey.groups, model.sprite_size, survey.sprite_size
    too_large = survey.pixels[survey.sides > size].sum() / survey.pixels.sum()
    if too_large > 1 - _FITTING:
        yield (
            f"{too_large:.0%} of the lit pixels are in connected groups larger than"
            f" model.sprite_size = {size}, up to {survey.sides.max()} px. An object"
            " that does not fit is not painted as one: unless these are objects that"
            f" touch, set --config.model.sprite_size={suitable}."
        )
    if groups.max() > model.max_objects:
        yield (
            f"{(groups > model.max_objects).mean():.1%} of the images have more"
            " connected groups of lit pixels than model.max_objects ="
            f" {model.max_objects}, up to {groups.max()}: unless these are specks, set"
            f" --config.model.max_objects={groups.max()}."
        )
