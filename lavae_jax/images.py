"""Images as the model takes them, and the checks on images that users pass in."""

import jax
import jax.numpy as jnp
import numpy as np

from lavae_jax.types import Array


def to_float(images: Array) -> Array:
    """Converts images, uint8 (0/255 or 0/1) or float {0, 1}, to float32 {0, 1}."""
    images = jnp.asarray(images)
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(jnp.float32)
    return images.astype(bool).astype(jnp.float32)


def check(images: Array | np.ndarray, image_shape: tuple[int, int, int]) -> Array:
    """Checks a batch of images [B, H, W, C] and returns it as float32 in {0, 1}.

    Raises:
        TypeError: for another dtype.
        ValueError: for another shape, or values that are not binary.
    """
    wanted = f"[B, {', '.join(map(str, image_shape))}]"
    shape = tuple(np.shape(images))
    if len(shape) != 4 or shape[1:] != tuple(image_shape) or shape[0] == 0:
        raise ValueError(
            "images must be a batch of at least one image, of the shape"
            f" {wanted}, got {list(shape)}."
        )
    if isinstance(images, jax.core.Tracer):
        return to_float(images)
    images = np.asarray(images)
    if images.dtype.kind not in "biuf":
        raise TypeError(
            f"images must be uint8, bool or float, got {images.dtype}. Convert them"
            " with np.asarray(images, np.uint8)."
        )
    lit = 1 if images.dtype.kind == "f" or (images == 1).any() else 255
    valid = (images == 0) | (images == lit)
    if not valid.all():
        value = images[~valid].flat[0]
        raise ValueError(
            f"images must be binary, 0 and 1 or 0 and 255, got a pixel of {value}."
            " Binarise them first, for example with images > threshold."
        )
    return to_float(images)
