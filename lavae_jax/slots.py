"""Applies networks to the slots that hold an object, and to no others.

Scenes have few objects and many slots (1.5 of 10 in the paper's data). Networks that
run once per object therefore run on a buffer of the active (image, slot) pairs. A batch
with more objects than the buffer holds takes a second buffer that holds every slot, so
no object is ever dropped.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from lavae_jax.types import Array


def _apply_to_buffer(
    module: nn.Module | None,
    active: Array,
    per_slot: tuple[Array, ...],
    network: Callable[..., Array],
    capacity: int,
) -> Array:
    num_images, max_objects = active.shape
    # Of equal values, the first come first: active slots, in order, before any other.
    flat_active, index = lax.top_k(active.reshape(-1).astype(jnp.float32), capacity)
    valid = flat_active > 0
    inputs = [a.reshape(-1, *a.shape[2:])[index] for a in per_slot]
    outputs = network(module, index // max_objects, valid, *inputs)
    mask = valid.reshape(-1, *([1] * (outputs.ndim - 1)))
    flat = jnp.zeros((num_images * max_objects, *outputs.shape[1:]), outputs.dtype)
    flat = flat.at[index].set(jnp.where(mask, outputs, 0), unique_indices=True)
    return flat.reshape(num_images, max_objects, *outputs.shape[1:])


def map_active(
    module: nn.Module | None,
    network: Callable[..., Array],
    active: Array,
    per_slot: tuple[Array, ...],
    capacity: int,
    axis_name: str | None = None,
) -> Array:
    """Applies a network to the active slots of a batch.

    Args:
        module: the Linen module that `network` is a method of; None for a function
            without parameters.
        network: maps (module, image [A] int32, valid [A] bool, *inputs [A, ...]) to
            [A, ...], where A is the size of the buffer and `image` tells which image
            each object belongs to. Rows that are not valid must not affect the others.
        active: [B, M] bool.
        per_slot: arrays [B, M, ...], gathered for the active slots.
        capacity: size of the small buffer.
        axis_name: the mapped axis of devices, if any. All devices take the same
            buffer, because the network may average over them.

    Returns:
        [B, M, ...], zeros in inactive slots.
    """
    num_slots = active.size
    if capacity >= num_slots:
        return _apply_to_buffer(module, active, per_slot, network, num_slots)
    most = active.sum()
    if axis_name is not None and not module.is_initializing():
        most = lax.pmax(most, axis_name)

    small, whole = (
        partial(_apply_to_buffer, network=network, capacity=size)
        for size in (capacity, num_slots)
    )
    if module is None:
        small, whole = partial(small, None), partial(whole, None)
        return lax.cond(most <= capacity, small, whole, active, per_slot)
    return nn.cond(most <= capacity, small, whole, module, active, per_slot)
