"""Proposes objects that h_loc misses; the ELBO weighs them.

Where two objects touch or one hides another, h_loc has one maximum at first. No draw
from q then puts an object on the second one, so the ELBO never compares one object with
two. These proposals make it compare them:

- for a superposed scene, the objects that q finds in each of the two scenes alone;
- the same with one more object, where the likelihood is lowest.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import likelihood
from lavae_jax.latents import counts
from lavae_jax.latents.locations import MASKED, at_sites
from lavae_jax.model import LAVAE
from lavae_jax.objectives import reconstruct
from lavae_jax.training.superposition import Superposed, partner, without_priors
from lavae_jax.types import Array, Locations, hard_locations, site_at, yx_of


class Proposals(NamedTuple):
    """P proposals for each of B scenes.

    Attributes:
        locations: [B · P, ...], the proposals of a scene in a row.
        valid: which of them h_loc may learn, [B, P] bool.
    """

    locations: Locations
    valid: Array


def objects_of_both(model: LAVAE, scenes: Superposed, h_single: Array) -> Locations:
    """Finds the most likely sites of an image's objects and of its partner's objects.

    Args:
        model: LAVAE, whose parameters are not needed.
        scenes: what `superpose` gives for B images.
        h_single: location logits of the images before they were superposed, [B, H, W].

    Returns:
        Locations [B, ...] of at most M objects.
    """
    h_single = lax.stop_gradient(h_single)
    likely = model.locations(h_single, model.count(h_single), keys=None)
    other_site, other_active = partner((likely.site, likely.active), model.axis_name)
    moved_yx = yx_of(other_site, model.image_shape[1]) + scenes.shift[:, None]
    other_site = site_at(moved_yx, model.image_shape[:2])
    other_active &= scenes.superposed[:, None]
    site = jnp.concatenate([likely.site, other_site], axis=1)
    active = jnp.concatenate([likely.active, other_active], axis=1)
    first = jnp.argsort(~active, axis=1, stable=True)[:, : model.max_objects]
    site, active = (jnp.take_along_axis(a, first, axis=1) for a in (site, active))
    return hard_locations(site, active)


def worst_site(
    model: LAVAE, x: Array, locations: Locations, noise: Array | float | None
) -> Array:
    """Finds where the likelihood of images [B, H, W, C] is lowest, for given objects.

    It is the site around which most nats are lost against a perfect canvas, λ = x, in a
    square of about two fifths of a sprite. Sites that the objects exclude don't count.

    Returns:
        [B] int32.
    """
    appearance = model.appearance(model.appearance_features(x), locations)
    q = model.background_posterior(x)
    canvas = model.paint(appearance.mu, q and q.mu, locations)
    noise = model.noise() if noise is None else noise
    best, found = (
        likelihood.log_likelihood(x, mean, noise, model.pixels) for mean in (x, canvas)
    )
    side = 2 * (model.sprite_size // 5) + 1
    lost = counts.reduce_square((best - found).sum(axis=-1), side, lax.add, 0.0)
    near = counts.near_objects(locations, x.shape[1:3], model.exclusion_radius)
    lost = jnp.where(near, -jnp.inf, lost).reshape(x.shape[0], -1)
    return jnp.argmax(lost, axis=1).astype(jnp.int32)


def with_one_more(locations: Locations, site: Array) -> Locations:
    """Repeats the objects of each image, the second time with one more at a site.

    Where all slots are active, the second time is like the first.

    Args:
        locations: [B, ...], whose active slots come first.
        site: [B] int32.

    Returns:
        Locations [2 B, ...], those of an image in a row.
    """
    slots = jnp.arange(locations.active.shape[1])
    last = slots[None, :] == locations.active.sum(axis=1)[:, None]
    more = jnp.where(last, site[:, None], locations.site), locations.active | last
    both = jax.tree.map(
        lambda a, b: jnp.stack([a, b], axis=1).reshape(-1, a.shape[1]),
        (locations.site, locations.active),
        more,
    )
    return hard_locations(*both)


def propose(
    model: LAVAE,
    scenes: Superposed,
    h_single: Array,
    noise: Array | float | None,
    one_more: bool,
) -> Proposals:
    """Proposes objects for B scenes.

    Args:
        model: bound to its variables.
        scenes: what `superpose` gives for B images.
        h_single: location logits of the images before they were superposed, [B, H, W].
        noise: ε or σ of the likelihood; None for the model's.
        one_more: whether the objects of both scenes are also proposed with another
            object, where the likelihood is lowest. Scenes that were not superposed get
            this proposal, too; scenes of M objects do not.
    """
    both, valid = objects_of_both(model, scenes, h_single), scenes.superposed[:, None]
    if not one_more:
        return Proposals(both, valid)
    more = with_one_more(both, worst_site(model, scenes.x, both, noise))
    has_room = ~both.active.all(axis=1, keepdims=True)
    return Proposals(more, jnp.concatenate([valid, has_room], axis=1))


def wake(
    model: LAVAE,
    scenes: Superposed,
    proposals: Proposals,
    h_loc: Array,
    elbo: Array,
    keys: Array,
    noise: Array | float | None,
    temperature: float,
) -> Array:
    """Computes the objective by which h_loc learns what is proposed.

    Log q of the proposals is weighted with their share of Σ_k exp(ELBO_k) over the K
    draws and all proposals, as in reweighted wake-sleep (Bornschein & Bengio, 2015). So
    log q rises as far as the ELBO is higher with them than with the objects that were
    drawn. Proposals that h_loc may not learn, or can't draw, have a share as well, of
    which nothing is learned.

    Args:
        model: bound to its variables.
        scenes: what `superpose` gives for B images.
        proposals: P for each scene.
        h_loc: location logits of the scenes, [B, H, W].
        elbo: of the draws, nats, [B, K].
        keys: [B], for draws of z_app, the same for all proposals of a scene.
        noise: ε or σ of the likelihood; None for the model's.
        temperature: T of `counts.draw_n`.

    Returns:
        The mean of the weighted log q over all images, nats.
    """
    num_proposals = proposals.valid.shape[1]
    h_loc, keys = (jnp.repeat(a, num_proposals, axis=0) for a in (h_loc, keys))
    threshold, radius = model.count_threshold, model.exclusion_radius
    site, active = proposals.locations.site, proposals.locations.active
    capacity = model.capacity(h_loc.shape[0])
    proposed = at_sites(h_loc, site, active, exclusion_radius=radius, capacity=capacity)
    log_q = proposed.log_q.sum(axis=1)
    if temperature:
        log_q += counts.log_q_count(h_loc, proposed, threshold, temperature, radius)
    n = proposed.active.sum(axis=1)
    terms = reconstruct(model, scenes.x, proposed, n, keys, noise)
    terms = without_priors(model, terms, proposed, scenes.chosen)
    all_elbo = jnp.concatenate([elbo, terms.elbo.reshape(-1, num_proposals)], axis=1)
    shares = jax.nn.softmax(lax.stop_gradient(all_elbo), axis=1)[:, elbo.shape[1] :]
    log_q = log_q.reshape(shares.shape)
    # Sites that exclude each other can't be drawn together.
    possible = proposals.valid & (log_q > MASKED / 2)
    return jnp.where(possible, shares * log_q, 0).sum(axis=1).mean()
