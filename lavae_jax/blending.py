"""How the canvas becomes an image where objects hide each other and the background.

Eq. 4 sums sprites, each convolved with its location. Here a sprite has colours c and an
opacity α, and its object has a weight w = exp(6 tanh(2/3 depth)), where the depth is
the first number of z_app. Three sums of the kind of Eq. 4, of w α c, of w α and of
log(1 − α), give the image with the background b,

    λ = (1 − T) · Σ_i w_i α_i c_i / Σ_i w_i α_i + T · b,    T = Π_i (1 − α_i).

Off the overlaps, λ = α c + (1 − α) b, whatever the depths are. Where objects overlap,
the one with the larger depth hides the others as far as its α and its lead go. No order
of the objects enters, so the depth has a gradient, a prior and a divergence from it as
the rest of z_app has (McGuire and Bavoil, "Weighted Blended Order-Independent
Transparency", 2013).
"""

import jax.numpy as jnp

from lavae_jax import compositing
from lavae_jax.types import Array

_MOST_LEAD = 6.0
"""Sums of weights that differ by more lose digits."""

_SLOPE = 4.0
"""Objects with depths of ±½, a standard deviation of the prior apart, have weights of
45 to 1."""

_MOST_OPAQUE = 1 - 1e-6
_LEAST_WEIGHT = 1e-9

_LEAST_CHANGE = 0.02
"""A sprite that changes no pixel by more than this shows no object."""


def log_weight(depth: Array) -> Array:
    """Computes log w of depths [...]."""
    return _MOST_LEAD * jnp.tanh(_SLOPE / _MOST_LEAD * depth)


def to_layers(sprites: Array, depth: Array) -> Array:
    """Turns sprites into what is summed on the canvas.

    From colours and α [..., S, S, C + 1] and depths [...] to w α c, w α and log(1 − α),
    [..., S, S, C + 2], zeros where α is 0.
    """
    colours, alpha = sprites[..., :-1], sprites[..., -1:]
    weight = jnp.exp(log_weight(depth))[..., None, None, None] * alpha
    transparency = jnp.log1p(-jnp.minimum(alpha, _MOST_OPAQUE))
    return jnp.concatenate([weight * colours, weight, transparency], axis=-1)


def covers(
    sprites: Array, sites: Array, behind: Array, inside: Array | None = None
) -> Array:
    """Tells which pixels around its site each object covers: [B, M, S, S] bool.

    There it changes the background at least half as much as where it changes it most. α
    alone does not tell: a dim object on black may be painted by a faint sprite of a
    bright colour as well as by an opaque one of a dark colour.

    Args:
        sprites: colours and α, [B, M, S, S, C + 1].
        sites: [B, M].
        behind: the background, [B, H, W, C].
        inside: [B, H, W] bool, the pixels of images that do not fill the canvas; what
            is painted elsewhere is of no consequence.
    """
    num_images, max_objects, side = sprites.shape[:3]
    inside = jnp.ones(behind.shape[:3]) if inside is None else inside
    images = jnp.concatenate([behind, inside[..., None].astype(behind.dtype)], axis=-1)
    image = jnp.repeat(jnp.arange(num_images), max_objects)
    windows = compositing.windows(images, image, sites.reshape(-1), side)
    windows = windows.reshape(num_images, max_objects, *windows.shape[1:])
    # Windows of `inside` are 0 beyond the border, too.
    difference = jnp.abs(sprites[..., :-1] - windows[..., :-1]) * windows[..., -1:]
    change = sprites[..., -1] * difference.max(axis=-1)
    most = change.max(axis=(-2, -1), keepdims=True)
    return (2 * change > most) & (most > _LEAST_CHANGE)


def blend(layers: Array, background: Array) -> Array:
    """Computes λ from the summed layers [..., H, W, C + 2] and b [..., H, W, C]."""
    colours, weight = layers[..., :-2], layers[..., -2:-1]
    transmittance = jnp.exp(jnp.minimum(layers[..., -1:], 0))
    is_covered = weight > _LEAST_WEIGHT
    # A weighted mean of colours lies in [0, 1], but for rounding errors of the sums.
    colour = jnp.clip(colours / jnp.where(is_covered, weight, 1), 0, 1)
    colour = jnp.where(is_covered, colour, 0)
    return (1 - transmittance) * colour + transmittance * background
