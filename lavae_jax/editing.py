"""Edits scenes: the interventions of Figs. 3 and 6 to 8, and more of their kind.

Every function takes a `Scene` of B images, as `infer` gives it, and returns a new one.
An image by itself is a batch of one, `take(scene, 3)`. These arguments are the same
everywhere (E images are edited):

- only: the images to edit, an index or several that differ; all B by default.
- slot: the object, 0 to n − 1: one for all edited images, or [E].
- yx: row and column of a sprite's centre: [2] for all edited images, or [E, 2]. Several
  objects may have the same location.
- image_shape: the image that yx must lie in, (H, W, ...), such as `model.image_shape`.

Objects stay in the first n slots, and slots without one hold zeros. A value out of
range raises a ValueError that gives the valid range, and values of another type raise
a TypeError. The checks read the values, so scenes are edited outside `jax.jit`.

>>> from lavae_jax import editing
>>> scene = editing.empty(num_images=1, max_objects=3, app_dim=2)
>>> scene = editing.add(scene, (0, 0), [1.0, 2.0], image_shape=(8, 8))
>>> scene = editing.duplicate(scene, 0, (4, 6), image_shape=(8, 8))
>>> scene = editing.restyle(scene, 1, dims=0, values=-0.5)
>>> scene.n.tolist(), scene.z_app.tolist()
([2], [[[1.0, 2.0], [-0.5, 2.0], [0.0, 0.0]]])
>>> editing.move(scene, 1, (5, 6), image_shape=(8, 8)).yx.tolist()
[[[0, 0], [5, 6], [0, 0]]]
>>> editing.swap(scene, 0, 1, "appearance").z_app[..., 0].tolist()
[[-0.5, 1.0, 0.0]]
>>> editing.interpolate(scene, 0, 1, 0.5, "location").yx.tolist()
[[[2, 3], [4, 6], [0, 0]]]
>>> editing.remove(scene, 0).n.tolist()
[1]
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from lavae_jax import edit_checks as checks
from lavae_jax.edit_checks import What
from lavae_jax.types import Scene


def empty(num_images: int, max_objects: int, app_dim: int) -> Scene:
    """Makes scenes without objects, to `add` to: B images of M slots, L dimensions."""
    for size in (num_images, max_objects, app_dim):
        if size < 1:
            raise ValueError(f"sizes of a scene must be at least 1, got {size}.")
    n = np.zeros(num_images, np.int32)
    yx = np.zeros((num_images, max_objects, 2), np.int32)
    z_app = np.zeros((num_images, max_objects, app_dim), np.float32)
    active = np.zeros((num_images, max_objects), bool)
    return checks.close_scene(Scene(n, yx, z_app, active))


def take(scene: Scene, images: ArrayLike) -> Scene:
    """Takes the scenes of some images: of an index, or of [K] in this order.

    An image may be taken more than once.
    """
    old, _ = checks.open_scene(scene)
    images = checks.indices("images", images, len(old.n), repeated=True)
    return checks.close_scene(jax.tree.map(lambda field: field[images], old))


def move(
    scene: Scene,
    slot: ArrayLike,
    yx: ArrayLike,
    image_shape: Sequence[int],
    *,
    only: ArrayLike | None = None,
) -> Scene:
    """Moves an object to another location, yx."""
    new, images = checks.open_scene(scene, only)
    slot = checks.objects("slot", slot, new, images)
    new.yx[images, slot] = checks.places(yx, image_shape, len(images))
    return checks.close_scene(new)


def swap(
    scene: Scene,
    slot: ArrayLike,
    other: ArrayLike,
    what: What = "location",
    *,
    only: ArrayLike | None = None,
) -> Scene:
    """Exchanges the locations, or the appearances, of the objects `slot` and `other`.

    This reorders one of the two sequences z_loc and z_app (Figs. 3 and 6). Both paint
    the same picture; they differ in which slot then holds which object.
    """
    new, images = checks.open_scene(scene, only)
    slot = checks.objects("slot", slot, new, images)
    other = checks.objects("other", other, new, images)
    field = checks.field_of(new, what)
    pair = np.stack([slot, other])
    field[images, pair] = field[images, pair[::-1]]
    return checks.close_scene(new)


def remove(scene: Scene, slot: ArrayLike, *, only: ArrayLike | None = None) -> Scene:
    """Takes an object away; those after it move up one slot."""
    new, images = checks.open_scene(scene, only)
    slot = checks.objects("slot", slot, new, images)
    removed = np.arange(new.active.shape[1]) == slot[:, None]
    order = np.argsort(removed, axis=1, kind="stable")[..., None]
    for field in (new.yx, new.z_app):
        field[images] = np.take_along_axis(field[images], order, axis=1)
    new.n[images] -= 1
    return checks.close_scene(new)


def select(scene: Scene, slots: ArrayLike, *, only: ArrayLike | None = None) -> Scene:
    """Keeps some objects, in the order given; `[]` keeps none.

    `slots` are one index or several that differ, and every edited image must have them.
    To choose images, see `take`.
    """
    new, images = checks.open_scene(scene, only)
    fewest = new.n[images].min(initial=new.active.shape[1])
    slots = checks.indices("slots", slots, fewest)
    for field in (new.yx, new.z_app):
        field[images, : len(slots)] = field[images][:, slots]
    new.n[images] = len(slots)
    return checks.close_scene(new)


def add(
    scene: Scene,
    yx: ArrayLike,
    z_app: ArrayLike,
    image_shape: Sequence[int],
    *,
    only: ArrayLike | None = None,
) -> Scene:
    """Adds an object in the first free slot: an appearance z_app at a location yx.

    z_app is [L] for all edited images, or [E, L]. An image with M objects is refused.
    """
    new, images = checks.open_scene(scene, only)
    slot, shape = checks.free_slots(new, images), new.z_app.shape[2:]
    new.yx[images, slot] = checks.places(yx, image_shape, len(images))
    new.z_app[images, slot] = checks.reals("z_app", z_app, shape, len(images))
    new.n[images] += 1
    return checks.close_scene(new)


def duplicate(
    scene: Scene,
    slot: ArrayLike,
    yx: ArrayLike,
    image_shape: Sequence[int],
    *,
    only: ArrayLike | None = None,
) -> Scene:
    """Adds an object that looks like another one, at yx; errors are those of `add`."""
    old, images = checks.open_scene(scene, only)
    slot = checks.objects("slot", slot, old, images)
    return add(scene, yx, old.z_app[images, slot], image_shape, only=images)


def restyle(
    scene: Scene,
    slot: ArrayLike,
    dims: ArrayLike,
    values: ArrayLike,
    *,
    only: ArrayLike | None = None,
) -> Scene:
    """Sets dimensions of an object's appearance.

    `dims` is one dimension, 0 to L − 1, or [K] that differ; `values` has the shape of
    `dims`, or one row of it per edited image: [E] or [E, K].
    """
    new, images = checks.open_scene(scene, only)
    slot = checks.objects("slot", slot, new, images)
    shape = np.shape(dims)
    dims = checks.indices("dims", dims, new.z_app.shape[2])
    values = checks.reals("values", values, shape, len(images))
    place = images[:, None], slot[:, None], dims
    new.z_app[place] = values.reshape(len(images), len(dims))
    return checks.close_scene(new)


def interpolate(
    scene: Scene,
    slot: ArrayLike,
    toward: ArrayLike,
    weight: ArrayLike,
    what: What = "appearance",
    *,
    only: ArrayLike | None = None,
) -> Scene:
    """Moves an object's appearance, or its location, part of the way to another's.

    (1 − weight) · slot + weight · toward, for a weight in [0, 1], one or [E].
    Locations are rounded to whole pixels. The object `toward` stays as it is.
    """
    new, images = checks.open_scene(scene, only)
    slot = checks.objects("slot", slot, new, images)
    toward = checks.objects("toward", toward, new, images)
    weight = checks.weights(weight, len(images))[:, None]
    field = checks.field_of(new, what)
    mixed = (1 - weight) * field[images, slot] + weight * field[images, toward]
    field[images, slot] = np.round(mixed) if what == "location" else mixed
    return checks.close_scene(new)


def traverse(
    scene: Scene, edit: Callable[..., Scene], *axes: Sequence[Any] | np.ndarray
) -> Scene:
    """Makes the grid of scenes that an edit gives for every combination of values.

    Args:
        scene: B scenes.
        edit: maps the scene and one value of each axis to B scenes, such as `lambda
            scene, x: editing.move(scene, 0, (20, x), (64, 64))`.
        axes: the values of each axis of the grid, K_1, K_2, ... of them.

    Returns:
        K_1 · K_2 ⋯ B scenes, the last axis of the grid faster than those before it and
        images fastest: `render(...).reshape(K_1, K_2, ..., B, H, W, C)` is the grid.

    Raises:
        ValueError: if an axis has no values; errors of `edit` are passed on.
    """
    for number, axis in enumerate(axes):
        if len(axis) == 0:
            raise ValueError(f"axis {number} of the grid must have at least one value.")
    scenes = [
        checks.open_scene(edit(scene, *values))[0]
        for values in itertools.product(*axes)
    ]
    return checks.close_scene(
        jax.tree.map(lambda *fields: np.concatenate(fields), *scenes)
    )
