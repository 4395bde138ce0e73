"""Images as the model takes them, and the checks on images that users pass in."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from lavae_jax.types import Array


def to_float(images: Array, is_binary: bool = True) -> Array:
    """Converts images to float32: binary ones to {0, 1}, others to [0, 1].

    Floats keep their values. Of whole numbers, binary images have 0 and anything else,
    and others 0 to 255.
    """
    images = jnp.asarray(images)
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(jnp.float32)
    if is_binary or images.dtype == bool:
        return images.astype(bool).astype(jnp.float32)
    return images.astype(jnp.float32) / 255


def check(
    images: Array | np.ndarray,
    image_shape: tuple[int, int, int],
    is_binary: bool = True,
) -> Array:
    """Checks a batch of images [B, H, W, C] and returns it as float32 in [0, 1].

    Raises:
        TypeError: for another dtype.
        ValueError: for another shape, or values that are not binary, or outside [0, 1]
            where they need not be binary.
    """
    wanted = f"[B, {', '.join(map(str, image_shape))}]"
    shape = tuple(np.shape(images))
    if len(shape) != 4 or shape[1:] != tuple(image_shape) or shape[0] == 0:
        raise ValueError(
            "images must be a batch of at least one image, of the shape"
            f" {wanted}, got {list(shape)}."
        )
    if isinstance(images, jax.core.Tracer):
        return to_float(images, is_binary)
    images = _of_native_type(np.asarray(images))
    problem = _binary_problem(images) if is_binary else _range_problem(images)
    if problem:
        raise ValueError(problem)
    return to_float(images, is_binary)


def check_each(
    images: Iterable[Array | np.ndarray], channels: int, is_binary: bool = True
) -> list[np.ndarray]:
    """Checks images [H, W, C], or [H, W] if C is 1, of any sizes; returns [H, W, C].

    Errors are those of `check`, and name the image.
    """
    shape, checked = getattr(images, "shape", ()), []
    if len(shape) == 3 and shape[2] == channels:
        raise ValueError(
            "images must be several images, but this is a single one,"
            f" {list(shape)}: pass [image]."
        )
    for index, image in enumerate(images):
        image = np.asarray(image)
        whole = image[..., None] if image.ndim == 2 and channels == 1 else image
        if whole.ndim != 3 or whole.shape[2] != channels or not whole.size:
            raise ValueError(
                f"images[{index}] must be an image [H, W, {channels}] of at least one"
                f" pixel, got {list(image.shape)}. A single image is passed as [image]."
            )
        try:
            check(whole[None], whole.shape, is_binary)
        except (TypeError, ValueError) as error:
            raise type(error)(f"images[{index}]: {error}") from error
        checked.append(whole)
    return checked


def _of_native_type(images):
    """Returns the same values in a number type and byte order that JAX takes."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(np.float32)
    if images.dtype.kind not in "biu":
        raise TypeError(
            f"images must be uint8, bool or float, got {images.dtype}. Convert them"
            " with np.asarray(images, np.float32)."
        )
    return images.astype(images.dtype.newbyteorder("="), copy=False)


def _binary_problem(images):
    """Says what is wrong with images that must be binary; None if nothing is."""
    lit = 1 if images.dtype.kind == "f" or (images == 1).any() else 255
    valid = (images == 0) | (images == lit)
    if valid.all():
        return None
    is_float = images.dtype.kind == "f"
    kinds = "floats of 0 and 1" if is_float else "0 and 1 or 0 and 255"
    return (
        f"images must be binary, {kinds}, got a pixel of"
        f" {images[~valid].flat[0]}. Binarise them first, for example with images >"
        " threshold."
    )


def _range_problem(images):
    """Says what is wrong with images that need not be binary; None if nothing is."""
    most = 1 if images.dtype.kind in "bf" else 255
    valid = (images >= 0) & (images <= most)
    if valid.all():
        return None
    return (
        f"images must have values from 0 to {most}, as they are {images.dtype}: got a"
        f" pixel of {images[~valid].flat[0]}. Scale them first."
    )
