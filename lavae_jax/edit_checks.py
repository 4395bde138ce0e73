"""Checks the arguments of edits, and converts scenes to NumPy arrays and back.

E is the number of images that are edited. A value out of range raises a ValueError that
gives the valid range; values of another type raise a TypeError.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from lavae_jax.latents.counts import active_slots
from lavae_jax.types import Scene

What = Literal["appearance", "location"]


def open_scene(scene: Scene, only: ArrayLike | None = None) -> tuple[Scene, np.ndarray]:
    """Copies a scene to NumPy, to write to, and returns the images to edit, [E].

    Raises:
        TypeError: if it is not a Scene of values.
        ValueError: if its fields do not fit each other, or an image does not exist.
    """
    if not isinstance(scene, Scene):
        raise TypeError(f"expected a lavae_jax.Scene, got {type(scene).__name__}.")
    if any(isinstance(field, jax.core.Tracer) for field in scene):
        raise TypeError("scenes are edited outside jax transformations such as jit.")
    copy = Scene(*map(np.array, scene[:4], (np.int32, np.int32, np.float32, bool)))
    slots = copy.active.shape
    shapes = [field.shape for field in copy[:4]]
    if scene.background is not None:
        copy = copy._replace(background=np.array(scene.background, np.float32))
    wanted = [slots[:1], (*slots, 2), (*slots, *copy.z_app.shape[-1:]), slots]
    if len(slots) != 2 or shapes != wanted:
        raise ValueError(
            "a scene has the fields n [B], yx [B, M, 2], z_app [B, M, L] and active"
            f" [B, M], got {[list(shape) for shape in shapes]}. One image is a batch of"
            " one."
        )
    fits = copy.n == copy.active.sum(axis=1)
    if not (fits[:, None] & (copy.active == active_slots(copy.n, slots[1]))).all():
        raise ValueError("a scene's active slots must be the first n of each image.")
    if only is None:
        return copy, np.arange(slots[0])
    return copy, indices("only", only, slots[0])


def close_scene(scene: Scene) -> Scene:
    """Converts an edited scene to JAX: the first n slots active, zeros elsewhere."""
    active = active_slots(scene.n, scene.yx.shape[1])
    used = np.asarray(active)[..., None]
    return Scene(
        jnp.asarray(scene.n),
        jnp.asarray(np.where(used, scene.yx, np.int32(0))),
        jnp.asarray(np.where(used, scene.z_app, np.float32(0))),
        active,
        None if scene.background is None else jnp.asarray(scene.background),
    )


def field_of(scene: Scene, what: What) -> np.ndarray:
    """Returns the field that holds the appearances or the locations."""
    fields = {"appearance": scene.z_app, "location": scene.yx}
    if what not in fields:
        raise ValueError(f"what must be 'appearance' or 'location', got {what!r}.")
    return fields[what]


def indices(
    name: str, value: ArrayLike, size: int, repeated: bool = False
) -> np.ndarray:
    """Returns one index or several as [K], each from 0 to size − 1."""
    array = np.atleast_1d(value)
    if array.size and (array.ndim != 1 or array.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} must be an integer or a list of integers, got"
            f" {array.dtype}{list(array.shape)}."
        )
    outside = array[(array < 0) | (array >= size)]
    if outside.size:
        valid = f"lie in 0 to {size - 1}" if size else "be empty, there is none"
        raise ValueError(f"{name} must {valid}, got {outside[0]}.")
    if not repeated and len(np.unique(array)) < len(array):
        raise ValueError(f"{name} must differ from each other, got {array.tolist()}.")
    return array.astype(np.int32)


def per_image(
    name: str,
    value: ArrayLike,
    shape: tuple[int, ...],
    num_images: int,
    kinds: str = "iu",
) -> np.ndarray:
    """Returns one value of a shape, or one per edited image, as [E, *shape]."""
    array = np.asarray(value)
    each = (num_images, *shape)
    if array.shape not in (shape, each):
        raise ValueError(
            f"{name} must have the shape {list(shape)}, or {list(each)} with one per"
            f" edited image, got {list(array.shape)}."
        )
    if not array.size:
        # NumPy takes an empty list for floats.
        array = array.astype(np.int32)
    if array.dtype.kind not in kinds:
        wanted = "integers" if kinds == "iu" else "numbers"
        raise TypeError(f"{name} must hold {wanted}, got {array.dtype}.")
    return np.broadcast_to(array, each)


def reals(
    name: str, value: ArrayLike, shape: tuple[int, ...], num_images: int
) -> np.ndarray:
    """Returns finite numbers, [E, *shape] float32."""
    array = per_image(name, value, shape, num_images, kinds="iuf")
    finite = np.abs(array) <= np.finfo(np.float32).max
    if not finite.all():
        raise ValueError(f"{name} must be finite float32, got {array[~finite][0]}.")
    return array.astype(np.float32)


def weights(value: ArrayLike, num_images: int) -> np.ndarray:
    """Returns weights of an interpolation, 0 to 1, one per edited image, [E]."""
    weight = reals("weight", value, (), num_images)
    outside = weight[(weight < 0) | (weight > 1)]
    if outside.size:
        raise ValueError(f"weight must lie in 0 to 1, got {outside[0]:.6g}.")
    return weight


def free_slots(scene: Scene, images: np.ndarray) -> np.ndarray:
    """Finds the first slot without an object in each edited image, [E]."""
    max_objects = scene.active.shape[1]
    slot = scene.n[images]
    if (slot == max_objects).any():
        full = images[slot == max_objects][0]
        raise ValueError(
            f"image {full} holds {max_objects} objects already, the most that a scene"
            " has slots for: remove one first."
        )
    return slot


def objects(name: str, slot: ArrayLike, scene: Scene, images: np.ndarray) -> np.ndarray:
    """Returns slots that hold an object, one per edited image, [E]."""
    slot = per_image(name, slot, (), len(images))
    n = scene.n[images]
    wrong = np.flatnonzero((slot < 0) | (slot >= n))
    if wrong.size:
        e = wrong[0]
        has = f"the objects 0 to {n[e] - 1}" if n[e] else "no objects"
        raise ValueError(f"{name} {slot[e]}: image {images[e]} has {has}.")
    return slot


def places(yx: ArrayLike, image_shape: Sequence[int], num_images: int) -> np.ndarray:
    """Returns locations in an image (H, W, ...), one per edited image, [E, 2]."""
    size = np.asarray(image_shape)
    if size.ndim != 1 or len(size) < 2 or size.dtype.kind not in "iu":
        raise ValueError(f"image_shape must be (H, W) or (H, W, C), got {image_shape}.")
    yx = per_image("yx", yx, (2,), num_images)
    outside = yx[((yx < 0) | (yx >= size[:2])).any(axis=1)]
    if outside.size:
        raise ValueError(
            f"yx must lie in rows 0 to {size[0] - 1} and columns 0 to {size[1] - 1},"
            f" got {outside[0].tolist()}."
        )
    return yx
