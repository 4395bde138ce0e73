"""The model's own opinion of where the objects are, as a target for h_loc.

After the warm-up the softmax over sites no longer says how high h_loc should be, while
f_count compares it with a fixed threshold, so counts drift and collapse. Here the
regression of the warm-up goes on with a target that the model itself provides, in the
manner of an E-step: every inferred object is moved to the centre of mass of the pixels
that it explains, dropped if the ELBO is better without it, and an object is added where
pixels are left unexplained and one more object makes the ELBO better.

The position of a sprite in its window and the site it is placed at can trade against
each other. Tying the site to the centre of mass settles this, so that the same shape
always looks the same to the appearance network.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import compositing, likelihood
from lavae_jax.model import LAVAE
from lavae_jax.objectives import Reconstruction
from lavae_jax.types import Array, Locations
from lavae_jax.warmup import centroids

OFFSET = 0.25
"""Pixels added to every centre of mass. Symmetric shapes have theirs exactly on or half
way between pixels, where rounding would be decided by noise."""

BIRTH_MARGIN = 25.0
"""Nats of log-likelihood that an added object has to win: an allowance for its KL
terms, log D + KL_app, which are not known before it is drawn."""

UNEXPLAINED = 0.7
"""A pixel is unexplained when it costs more nats than a coin toss."""


class Target(NamedTuple):
    """Where objects should be.

    Attributes:
        centres: [B, M + 1, 2], row and column in pixels.
        valid: [B, M + 1] bool.
        moved: [B, M + 1] bool, objects that are not where they were drawn.
        dropped: [B, M + 1] bool, objects that the ELBO is better without.
        added: [B, M + 1] bool, objects that were missing.
    """

    centres: Array
    valid: Array
    moved: Array
    dropped: Array
    added: Array


def _as_rows(locations: Locations) -> tuple[Array, Array]:
    num_images, max_objects = locations.site.shape
    image = jnp.repeat(jnp.arange(num_images), max_objects)
    return image, locations.site.reshape(-1)


def explained_centres(x: Array, result: Reconstruction) -> Array:
    """Centre of mass of the pixels that each object explains.

    Pixel d counts for object i with x_d · sprite_i,d / λ_d, its share in the pixel.

    Args:
        x: [B, H, W, C].
        result: a reconstruction at hard sites.

    Returns:
        [B, M, 2], row and column in pixels.
    """
    num_images, max_objects, side = result.sprites.shape[:3]
    height, width = x.shape[1:3]
    image, sites = _as_rows(result.locations)
    share = x / jnp.maximum(result.canvas, 1e-3)
    cut = compositing.windows(share, image, sites, side)
    mass = (cut * result.sprites.reshape(cut.shape)).sum(axis=-1)
    offsets = jnp.arange(side, dtype=x.dtype) - side // 2
    total = mass.sum(axis=(1, 2)) + 1e-3
    row = sites // width + (mass.sum(axis=2) * offsets[None, :]).sum(axis=1) / total
    column = sites % width + (mass.sum(axis=1) * offsets[None, :]).sum(axis=1) / total
    centres = jnp.stack([row, column], axis=-1).reshape(num_images, max_objects, 2)
    limit = jnp.array([height - 1, width - 1], x.dtype)[None, None, :]
    return jnp.clip(centres, 0, limit)


def gains(
    x: Array, result: Reconstruction, epsilon: Array | float, num_sites: int
) -> Array:
    """What the ELBO gains by each object, nats, [B, M].

    log p(x|z) with the object less that without it, less its KL_app and log D.

    Args:
        x: [B, H, W, C].
        result: a reconstruction at hard sites.
        epsilon: ε of the likelihood.
        num_sites: D.
    """
    side = result.sprites.shape[2]
    image, sites = _as_rows(result.locations)
    pixels = compositing.windows(x, image, sites, side)
    canvas = compositing.windows(result.canvas, image, sites, side)
    others = jnp.maximum(canvas - result.sprites.reshape(canvas.shape), 0)

    def fit(canvas):
        log_p = likelihood.log_likelihood(pixels, canvas, epsilon)
        return log_p.sum(axis=(1, 2, 3))

    gain = (fit(canvas) - fit(others)).reshape(result.kl_app.shape)
    return gain - result.kl_app - jnp.log(float(num_sites))


def unexplained_site(x: Array, canvas: Array, epsilon: Array | float) -> Array:
    """The site with the most unexplained pixels around it, [B] int32."""
    num_images, height, width = x.shape[:3]
    cost = -likelihood.log_likelihood(x, canvas, epsilon).sum(axis=-1)
    cost = jnp.where(cost > UNEXPLAINED, cost, 0)
    crowd = lax.reduce_window(cost, 0.0, lax.add, (1, 11, 11), (1, 1, 1), "SAME")
    peak = jnp.argmax(crowd.reshape(num_images, -1), axis=1)[:, None]
    centre = jnp.round(centroids(cost, peak, 15)[:, 0] + OFFSET).astype(jnp.int32)
    row = jnp.clip(centre[:, 0], 0, height - 1)
    return row * width + jnp.clip(centre[:, 1], 0, width - 1)


def _birth(model, x, canvas, epsilon):
    """A site for one more object per image, and whether it is worth it."""
    num_images = x.shape[0]
    height, width, _ = model.image_shape
    site = unexplained_site(x, canvas, epsilon)
    active = (jnp.arange(model.max_objects) == 0)[None, :].repeat(num_images, axis=0)
    zeros = jnp.zeros(active.shape)
    at = Locations(jnp.where(active, site[:, None], 0), active, zeros, zeros, None)
    appearance = model.appearance(model.appearance_features(x), at)
    more = canvas + compositing.place(
        model.sprites(appearance.mu, active), at.site, height, width
    )
    gain = model.log_likelihood(x, more, epsilon) - model.log_likelihood(
        x, canvas, epsilon
    )
    return site, gain > BIRTH_MARGIN


def refine(
    model: LAVAE, x: Array, result: Reconstruction, epsilon: Array | float
) -> Target:
    """Where the model would rather have its objects; no gradient flows through.

    Args:
        model: bound to its variables.
        x: binary images, [B, H, W, C].
        result: a reconstruction at hard sites.
        epsilon: ε of the likelihood.
    """
    result = jax.tree.map(lax.stop_gradient, result)
    width = x.shape[2]
    active = result.locations.active
    centres = explained_centres(x, result) + OFFSET
    worth = gains(x, result, epsilon, model.num_sites) > 0
    site, added = _birth(model, x, result.canvas, epsilon)
    birth = jnp.stack([site // width, site % width], axis=-1).astype(x.dtype)
    nearest = jnp.round(centres).astype(jnp.int32)
    moved = (nearest[..., 0] * width + nearest[..., 1]) != result.locations.site
    none = jnp.zeros((x.shape[0], 1), bool)

    def join(objects, extra):
        return jnp.concatenate([objects & active, extra], axis=1)

    target = Target(
        centres=jnp.concatenate([centres, birth[:, None]], axis=1),
        valid=join(worth, added[:, None]),
        moved=join(moved, none),
        dropped=join(~worth, none),
        added=join(jnp.zeros_like(active), added[:, None]),
    )
    return jax.tree.map(lax.stop_gradient, target)
