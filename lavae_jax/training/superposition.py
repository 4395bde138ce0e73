"""Superposes scenes, so that objects touch more often.

Two scenes on top of each other are a scene again: λ is a sum over objects (Eq. 4), or
objects hide what is behind them. One scene can be moved until its objects touch those
of the other one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax.blending import covers
from lavae_jax.latents import counts
from lavae_jax.latents.locations import kl_locations
from lavae_jax.model import LAVAE
from lavae_jax.objectives import ElboTerms
from lavae_jax.types import Array, Locations


def partner(tree, axis_name: str | None):
    """Returns for each image what belongs to its partner, the image before it.

    The arrays of the tree are [B, ...], and the first image's partner is the last, of
    all devices. `axis_name` is the mapped axis of devices, or None.
    """

    def of_partner(a):
        if axis_name is None:
            return jnp.roll(a, 1, axis=0)
        all_partners = jnp.roll(lax.all_gather(a, axis_name, tiled=True), 1, axis=0)
        first = lax.axis_index(axis_name) * a.shape[0]
        return lax.dynamic_slice_in_dim(all_partners, first, a.shape[0])

    return jax.tree.map(of_partner, tree)


class Superposed(NamedTuple):
    """Scenes, some of which have another one on top.

    Attributes:
        x: images, [B, H, W, C].
        chosen: which scenes were to get another one on top, [B] bool.
        superposed: which scenes have another one on top, [B] bool.
        shift: the rows and columns by which the scene on top was moved, [B, 2] int32.
    """

    x: Array
    chosen: Array
    superposed: Array
    shift: Array


def covered_pixels(model: LAVAE, x: Array) -> Array:
    """Finds the pixels of images [B, H, W, C] that objects cover: [B, H, W] bool.

    In binary images on black they are those that are not black. In others they are what
    the sprites of the most likely objects cover.
    """
    if model.compositing == "sum":
        return x.any(axis=-1)
    h_loc = model.location_logits(x)
    locations = model.locations(h_loc, model.count(h_loc), keys=None)
    appearance = model.appearance(model.appearance_features(x), locations)
    sprites = model.sprites(appearance.mu, locations.active)
    behind = model.inferred_background(x)
    behind = jnp.broadcast_to(0.0 if behind is None else behind, x.shape)
    covered = covers(sprites, locations.site, behind)[..., None].astype(x.dtype)
    return model.canvas(covered, locations)[..., 0] > 0


def superpose(
    x: Array,
    covered: Array,
    chosen: Array,
    keys: Array,
    axis_name: str | None,
    touching: bool,
    overlap: int = 0,
) -> Superposed:
    """Puts its partner's objects on each chosen image, unmoved or until objects touch.

    A partner that can't be moved that far stays where it is. It is left out if objects
    of both cover more than `overlap` pixels. Where λ is a sum, no object should be
    hidden: objects that overlap would be frequent in these scenes, which have more
    objects than others; h_loc would learn to expect them wherever there are many
    objects, and see two in large ones.

    Args:
        x: images, [B, H, W, C].
        covered: the pixels that objects cover, [B, H, W] bool.
        chosen: [B] bool.
        keys: [B], one per image.
        axis_name: the mapped axis of devices, or None.
        touching: whether the partner is moved, by `touching_shift`.
        overlap: how many pixels objects of both may cover.
    """
    other, on_top = partner((x, covered), axis_name)
    shift = jnp.zeros((x.shape[0], 2), jnp.int32)
    if touching:
        shift = touching_shift(covered, on_top, keys, overlap)
    move = jax.vmap(lambda image, shift: jnp.roll(image, shift, axis=(0, 1)))
    other, on_top = move(other, shift), move(on_top, shift)
    superposed = chosen & ((covered & on_top).sum(axis=(1, 2)) <= overlap)
    on_top &= superposed[:, None, None]
    x = jnp.where(on_top[..., None], other, x)
    return Superposed(x, chosen, superposed, shift)


def touching_shift(
    covered: Array, other: Array, keys: Array, overlap: int = 0
) -> Array:
    """Draws a shift at which objects of two scenes touch, or overlap a little.

    It is uniform over all shifts that leave every covered pixel inside the image, and
    at which no more than `overlap` pixels are covered in both.

    Args:
        covered: the pixels that objects cover in a scene, [B, H, W] bool.
        other: those of the scene to move, [B, H, W] bool.
        keys: [B], one per image.
        overlap: how many pixels may be covered in both.

    Returns:
        Rows and columns, [B, 2] int32; 0 where there is no such shift.
    """
    num_images, *sides = covered.shape
    size = [2 * side for side in sides]  # room for shifts in both directions
    near = counts.reduce_square(covered.astype(jnp.float32), 3, lax.max, -jnp.inf)
    moved = jnp.conj(jnp.fft.rfft2(other.astype(jnp.float32), size))

    def num_in_both(pixels):
        """Counts the pixels in both at each shift (correlation theorem)."""
        product = jnp.fft.rfft2(pixels.astype(jnp.float32), size) * moved
        return jnp.fft.irfft2(product, size)

    valid = num_in_both(near) > 0.5
    valid &= num_in_both(covered) < overlap + 0.5
    valid &= _stays_inside(other.any(axis=2))[:, :, None]
    valid &= _stays_inside(other.any(axis=1))[:, None, :]
    # One uniform number per image is much cheaper than noise at every shift.
    number = jnp.cumsum(valid.reshape(num_images, -1).astype(jnp.float32), axis=1)
    uniform = jax.vmap(jax.random.uniform)(keys)
    index = jnp.argmax(number > (uniform * number[:, -1])[:, None], axis=1)
    shift = jnp.stack(jnp.unravel_index(index, size), axis=1).astype(jnp.int32)
    sides = jnp.array(sides, jnp.int32)
    shift = jnp.where(shift < sides, shift, shift - 2 * sides)
    return jnp.where(valid.any(axis=(1, 2))[:, None], shift, 0)


def _stays_inside(lit: Array) -> Array:
    """Tells whether lit rows [B, N] stay inside at each shift modulo 2 N: [B, 2 N]."""
    side = lit.shape[1]
    first = jnp.argmax(lit, axis=1)[:, None]
    last = side - 1 - jnp.argmax(lit[:, ::-1], axis=1)[:, None]
    shift = jnp.arange(2 * side)
    shift = jnp.where(shift < side, shift, shift - 2 * side)
    return (first + shift >= 0) & (last + shift < side)


def without_priors(
    model: LAVAE, terms: ElboTerms, locations: Locations, chosen: Array
) -> ElboTerms:
    """Leaves chosen images out of p(n), and out of what a learned p(z_loc | n) learns.

    Superposed scenes have more objects, at other places. Chosen images that were not
    superposed are left out too: scenes with many objects are superposed less often, and
    would teach p(n) too large an n.
    """
    chosen = jnp.repeat(chosen, terms.kl_n.shape[0] // chosen.shape[0])
    log_prior = model.log_prior_of_sites()
    if log_prior is not None:
        fixed = kl_locations(locations, model.num_sites, lax.stop_gradient(log_prior))
        terms = terms._replace(kl_loc=jnp.where(chosen, fixed, terms.kl_loc))
    return terms._replace(kl_n=jnp.where(chosen, 0, terms.kl_n))
