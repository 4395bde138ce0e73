"""Random keys that do not depend on how a batch is spread over devices."""

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax.types import Array


def image_keys(key: Array, num_images: int, axis_name: str | None) -> Array:
    """Makes one key per image of this device, by its index in the global batch: [B].

    Args:
        key: a single key, the same on every device.
        num_images: B, images of this device.
        axis_name: mapped axis of devices, if any.
    """
    first = 0 if axis_name is None else lax.axis_index(axis_name) * num_images
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(
        first + jnp.arange(num_images)
    )
