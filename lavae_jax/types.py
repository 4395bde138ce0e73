"""Array aliases and the records that the parts of the model hand to each other.

Axes: B images, H rows, W columns, C channels, D = H * W sites (row-major), M object
slots (`max_objects`), L appearance dimensions, S sprite side.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Variables = dict[str, Any]


class Locations(NamedTuple):
    """A draw of z_loc, one site per slot (Eq. 8 and 11).

    Slots at and beyond n are inactive: their site is 0 and their other fields are 0.

    Attributes:
        site: [B, M] int32, the drawn pixel, row * W + column.
        active: [B, M] bool, whether the slot holds an object.
        log_q: [B, M], log q(z_loc^i | z_loc^{<i}, x) of the drawn site, nats.
        entropy: [B, M], entropy of q(z_loc^i | z_loc^{<i}, x), nats.
        z_loc: [B, M, D], relaxed or straight-through one-hot vectors, or None where
            only the hard sites are used.
    """

    site: Array
    active: Array
    log_q: Array
    entropy: Array
    z_loc: Array | None


def hard_locations(site: Array, active: Array) -> Locations:
    """Makes locations of given sites, [B, M]; `active` tells which slots hold one."""
    zeros = jnp.zeros(active.shape, jnp.float32)
    return Locations(jnp.where(active, site, 0), active, zeros, zeros, None)


def yx_of(site: Array, width: int) -> Array:
    """Returns row and column, [..., 2], of sites [...] in images of this width."""
    return jnp.stack([site // width, site % width], axis=-1)


def site_at(yx: Array, size: tuple[int, int]) -> Array:
    """Returns the sites [...] of pixels [..., 2], or the nearest inside the image."""
    height, width = size
    row = jnp.clip(yx[..., 0], 0, height - 1)
    return row * width + jnp.clip(yx[..., 1], 0, width - 1)


class Appearance(NamedTuple):
    """Parameters of q(z_app | z_loc, x) (Eq. 10): both [B, M, L], 0 where inactive.

    For the baseline they are the parameters of q(z | x), both [B, d_VAE].
    """

    mu: Array
    logvar: Array


class Scene(NamedTuple):
    """The objects that the model infers in a batch of images.

    Attributes:
        n: [B] int32, the number of objects.
        yx: [B, M, 2] int32, row and column of each sprite's centre.
        z_app: [B, M, L] float32, the appearance of each object.
        active: [B, M] bool, slot i holds an object when i < n. `scene.yx[scene.active]`
            are the locations of all objects, without the empty slots.
        background: [B, dim] float32, the background's latent, or None without one.
    """

    n: Array
    yx: Array
    z_app: Array
    active: Array
    background: Array | None = None

    @property
    def is_capped(self) -> Array:
        """Tells where there are M objects, so the image may hold more: [B] bool."""
        return self.n == self.active.shape[1]
