"""The model's own opinion of where the objects are, as a target for h_loc.

After the warm-up the softmax over sites no longer says how high h_loc should be, while
f_count compares it with a fixed threshold, so counts drift and collapse. Here the
regression of the warm-up goes on with a target that the model itself provides, in the
manner of an E-step: every inferred object is moved to the centre of mass of the pixels
that it explains, dropped if the ELBO is better without it, and an object is added where
pixels are left unexplained and one more object makes the ELBO better.

An object of a kind that the model has not learned yet makes the ELBO no better. So
pixels that lie in no other object's window are reason enough to keep an object, and to
add one: without it, nobody would ever learn to paint them.

The position of a sprite in its window and the site it is placed at can trade against
each other. Tying the site to the centre of mass settles this, so that the same shape
always looks the same to the appearance network.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lavae_jax import compositing, likelihood, slots
from lavae_jax.latents.counts import reduce_square
from lavae_jax.model import LAVAE
from lavae_jax.objectives import Reconstruction
from lavae_jax.types import Array, Locations, hard_locations
from lavae_jax.warmup import OBJECT_SIZE, centroids, scaled, scaled_side

OFFSET = 0.25
"""Pixels added to every centre of mass. Symmetric shapes have theirs exactly on or half
way between pixels, where rounding would be decided by noise."""

BIRTH_MARGIN = 25.0
"""Nats of log-likelihood that an added object has to win: an allowance for its KL
terms, log D + KL_app, which are not known before it is drawn."""

UNEXPLAINED = 0.7
"""A pixel is unexplained when it costs more nats than a coin toss."""

REACH = 2
"""Pixels by which an object may stick out of its window without being orphaned: sites
are still that far off when refinement begins."""

ORPHANS = 3
"""As many lit pixels in reach of no other object make an object, by default."""

CROWD_WINDOW, CENTRE_WINDOW = 11, 15
"""Pixels, see `densest_site`. As `REACH` these are for objects of 19 pixels, and scaled
for others; `ORPHANS` grows with the area of larger ones."""


def _reach(object_size: int) -> int:
    return max(round(scaled(REACH, object_size)), 1)


def _enough(orphans: int, object_size: int) -> int:
    """So many orphaned pixels make an object of this size."""
    return max(round(orphans * scaled(1, object_size) ** 2), orphans)


class Target(NamedTuple):
    """Where objects should be.

    Attributes:
        centres: [B, M + 1, 2], row and column in pixels.
        valid: [B, M + 1] bool.
        moved: [B, M + 1] bool, objects that are not where they were drawn.
        dropped: [B, M + 1] bool, objects that are not worth having.
        added: [B, M + 1] bool, objects that were missing.
    """

    centres: Array
    valid: Array
    moved: Array
    dropped: Array
    added: Array


def coverage(
    model: LAVAE, locations: Locations, object_size: int = OBJECT_SIZE
) -> Array:
    """How many objects reach each pixel, [B, H, W, 1] float32."""
    height, width, _ = model.image_shape
    side = model.sprite_size + 2 * _reach(object_size)
    reach = jnp.broadcast_to(
        locations.active[:, :, None, None, None].astype(jnp.float32),
        (*locations.active.shape, side, side, 1),
    )
    return compositing.place(reach, locations.site, height, width)


class Merits(NamedTuple):
    """What is known of each object.

    Attributes:
        centres: [B, M, 2], the centre of mass of the pixels that the object explains,
            row and column in pixels: pixel d counts with x_d · sprite_d / λ_d, the
            object's share in it.
        gains: [B, M], nats: log p(x | z) with the object less that without it, less its
            KL_app and log D.
        own: [B, M], lit pixels in its window that no other object reaches.
    """

    centres: Array
    gains: Array
    own: Array


def merits(
    model: LAVAE,
    x: Array,
    result: Reconstruction,
    cover: Array,
    epsilon: Array | float,
) -> Merits:
    """Looks at each object's window.

    Args:
        model: bound to its variables.
        x: [B, H, W, C].
        result: a reconstruction at hard sites.
        cover: `coverage` by its objects.
        epsilon: ε of the likelihood.
    """
    side, (height, width) = model.sprite_size, x.shape[1:3]
    offsets = (jnp.arange(side, dtype=x.dtype) - side // 2)[None, :]

    def measure(module, image, valid, sites, sprites):
        del module, valid
        pixels = compositing.windows(x, image, sites, side)
        canvas = compositing.windows(result.canvas, image, sites, side)
        alone = compositing.windows(cover, image, sites, side) == 1
        mass = (pixels * sprites / jnp.maximum(canvas, 1e-3)).sum(axis=-1)
        total = mass.sum(axis=(1, 2)) + 1e-3
        row = (mass.sum(axis=2) * offsets).sum(axis=1) / total + sites // width
        column = (mass.sum(axis=1) * offsets).sum(axis=1) / total + sites % width

        def fit(canvas):
            log_p = likelihood.log_likelihood(pixels, canvas, epsilon)
            return log_p.sum(axis=(1, 2, 3))

        gain = fit(canvas) - fit(jnp.maximum(canvas - sprites, 0))
        own = (pixels.max(axis=-1, keepdims=True) * alone).sum(axis=(1, 2, 3))
        return jnp.stack([row, column, gain, own], axis=-1)

    measured = slots.map_active(
        model,
        measure,
        result.locations.active,
        (result.locations.site, result.sprites),
        slots.capacity_for(x.shape[0], model.max_objects, model.objects_per_image),
    )
    limit = jnp.array([height - 1, width - 1], x.dtype)[None, None, :]
    price = result.kl_app + jnp.log(float(model.num_sites))
    return Merits(
        centres=jnp.clip(measured[..., :2], 0, limit),
        gains=measured[..., 2] - price,
        own=measured[..., 3],
    )


def densest_site(mass: Array, object_size: int = OBJECT_SIZE) -> Array:
    """The site with the most of [B, H, W] around it, not negative: [B] int32.

    It is the centre of mass in a 15×15 window around the middle of the 11×11 window
    that holds most.
    """
    num_images, height, width = mass.shape
    window = scaled_side(CROWD_WINDOW, object_size)
    crowd = reduce_square(mass, window, lax.add, 0.0)
    peak = jnp.argmax(crowd.reshape(num_images, -1), axis=1)[:, None]
    centre = centroids(mass, peak, scaled_side(CENTRE_WINDOW, object_size))[:, 0]
    centre = jnp.round(centre + OFFSET).astype(jnp.int32)
    row = jnp.clip(centre[:, 0], 0, height - 1)
    return row * width + jnp.clip(centre[:, 1], 0, width - 1)


def _birth(model, x, canvas, cover, epsilon, object_size, orphans):
    """A site for one more object per image, and whether it is worth it."""
    num_images = x.shape[0]
    height, width, _ = model.image_shape
    lonely = x.max(axis=-1) * (cover[..., 0] == 0)
    orphaned = lonely.sum(axis=(1, 2)) >= _enough(orphans, object_size)
    cost = -likelihood.log_likelihood(x, canvas, epsilon).sum(axis=-1)
    unexplained = jnp.where(cost > UNEXPLAINED, cost, 0)
    mass = jnp.where(orphaned[:, None, None], lonely, unexplained)
    site = densest_site(mass, object_size)
    # Of NumPy, so that XLA sees that the small buffer holds all of it.
    active = (np.arange(model.max_objects) == 0)[None, :].repeat(num_images, axis=0)
    at = hard_locations(jnp.broadcast_to(site[:, None], active.shape), active)
    appearance = model.appearance(model.appearance_features(x), at)
    more = canvas + compositing.place(
        model.sprites(appearance.mu, active), at.site, height, width
    )
    gain = model.log_likelihood(x, more, epsilon) + cost.sum(axis=(1, 2))
    return site, orphaned | (gain > BIRTH_MARGIN)


def refine(
    model: LAVAE,
    x: Array,
    result: Reconstruction,
    epsilon: Array | float,
    object_size: int = OBJECT_SIZE,
    orphans: int = ORPHANS,
) -> Target:
    """Where the model would rather have its objects; no gradient flows through.

    Args:
        model: bound to its variables.
        x: binary images, [B, H, W, C].
        result: a reconstruction at hard sites.
        epsilon: ε of the likelihood.
        object_size: side of the largest objects, px.
        orphans: lit pixels in reach of no other object that make one of up to 19 px.
    """
    result = jax.tree.map(lax.stop_gradient, result)
    width = x.shape[2]
    active = result.locations.active
    cover = coverage(model, result.locations, object_size)
    centres, gains, own = merits(model, x, result, cover, epsilon)
    worth = (gains > 0) | (own >= _enough(orphans, object_size))
    centres = centres + OFFSET
    site, added = _birth(model, x, result.canvas, cover, epsilon, object_size, orphans)
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
