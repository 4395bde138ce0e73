"""Measures on held-out scenes whether LAVAE has collapsed."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lavae_jax import inference
from lavae_jax.model import LAVAE

# A learned sprite shows the object in its colour, and always some black around it: its
# contrast is almost 1.
_BLANK_CONTRAST = 0.1
# After the warm-up a healthy model errs in a few percent of the scenes at most. A
# collapsed one errs in (nearly) all scenes that have objects, which are three in four
# where there are 0 to 3 objects. A half is far from both.
_COLLAPSED = 0.5
# A split object costs an image the nats of one more location and appearance, and is
# seldom alone: the heights of h_loc are shared by all. One in five is far above the
# 0.1% of scenes with 7 objects that released models count wrong.
_OFTEN_SPLIT = 0.2
# A location net with one preferred site per cell of its stem moves none of its objects
# by a single pixel; one that has learned pixels moves nine in ten.
_UNSTEADY = 0.5


class Diagnosis(NamedTuple):
    """Measures of LAVAE on scenes that it is not trained on, [B] each.

    Attributes:
        count_accuracy: whether the number of objects is right; None if n is unknown.
        uncounted: whether f_count is 0 though there are objects, or, if n is unknown,
            lit pixels.
        overcounted: whether f_count is M though n is less than M, or unknown.
        blank: share of the inferred objects whose sprite shows nothing.
        unsteady: number of the inferred objects off the border that do not move along
            with the image when it is moved by one pixel in both directions. It is
            divided by the mean number of such objects in all B images, so that its mean
            is a share.
        split: whether one object is inferred as two: two are less than half a sprite's
            window apart, and more than n are inferred; None if n is unknown.
    """

    count_accuracy: Any
    uncounted: Any
    overcounted: Any
    blank: Any
    unsteady: Any
    split: Any


def measure(
    model: LAVAE,
    variables: dict[str, Any],
    images: jax.Array,
    n: jax.Array | None,
) -> Diagnosis:
    """Measures a model on images [B, H, W, C] with n [B] objects; None if n is unknown.

    This costs two inferences and the decoding of the sprites; no image is painted.
    """
    # Without their n, only black images are known to have no objects.
    has_objects = (images > 0).any((1, 2, 3)) & model.is_binary
    scene = inference.infer(model, variables, images)
    masks = inference.masks(model, variables, scene)
    contrast = masks.max((2, 3)) - masks.min((2, 3))
    blank = scene.active & (contrast < _BLANK_CONTRAST)
    per_object = jnp.maximum(scene.n, 1)
    diagnosis = Diagnosis(
        count_accuracy=None,
        uncounted=(scene.n == 0) & has_objects,
        overcounted=scene.n == model.max_objects,
        blank=blank.sum(1) / per_object,
        unsteady=_unsteady(model, variables, images, scene),
        split=None,
    )
    if n is None:
        return diagnosis
    distance = jnp.abs(scene.yx[:, :, None] - scene.yx[:, None]).max(-1)
    pair = scene.active[:, :, None] & scene.active[:, None]
    each_pair_once = jnp.triu(jnp.ones((model.max_objects,) * 2, bool), 1)[None]
    near = pair & each_pair_once & (2 * distance < model.sprite_size)
    return diagnosis._replace(
        count_accuracy=scene.n == n,
        uncounted=(scene.n == 0) & (n > 0),
        overcounted=diagnosis.overcounted & (n < model.max_objects),
        split=near.any((1, 2)) & (scene.n > n) & (n > 0),
    )


def _unsteady(model, variables, images, scene):
    """Finds the objects that do not move along with their image: numbers, [B].

    They are divided by the mean number of objects per image that count. Only those
    count whose window lies inside the image, before and after it is moved: a part of
    the others may come into the image or leave it.
    """
    padded = jnp.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0)), mode="edge")
    moved = inference.infer(model, variables, padded[:, :-1, :-1])
    expected, half = scene.yx + 1, model.sprite_size // 2
    last = jnp.array([[images.shape[1:3]]]) - 1 - half
    inside = ((scene.yx >= half) & (expected <= last)).all(-1) & scene.active
    same = (moved.yx[:, None] == expected[:, :, None]).all(-1)
    unsteady = inside & ~(same & moved.active[:, None]).any(2)
    per_image = jnp.maximum(inside.sum() / len(images), 1 / len(images))
    return unsteady.sum(1).astype(jnp.float32) / per_image


def warnings(means: Diagnosis) -> list[str]:
    """Returns a sentence for each way in which a model has collapsed or meets a limit.

    Args:
        means: means over held-out scenes, after the warm-up: before its end a healthy
            model may look like a collapsed one.
    """
    sentences = []
    if means.uncounted > _COLLAPSED:
        sentences.append(
            f"f_count is 0 in {means.uncounted:.0%} of the held-out scenes, though they"
            " have objects: h_loc stays below its threshold."
        )
    if means.overcounted > 0:
        sentences.append(
            f"f_count is M = model.max_objects in {means.overcounted:.2%} of held-out"
            " scenes: they have as many objects or more, or else their count is wrong,"
            " as where h_loc is above its threshold all over."
        )
    if means.blank > _COLLAPSED:
        sentences.append(
            f"the sprites of {means.blank:.0%} of the objects in held-out scenes are"
            " blank."
        )
    if means.unsteady > _UNSTEADY:
        sentences.append(
            f"{means.unsteady:.0%} of the objects off the border do not move along"
            " with an image that is moved by a pixel: f_sprite has to learn each sprite"
            " at several offsets. Lower warmup.bump_sigma or model.stem_stride."
        )
    if means.split is not None and means.split > _OFTEN_SPLIT:
        sentences.append(
            f"one object is explained by two slots in {means.split:.0%} of the held-out"
            " scenes."
        )
    return sentences
