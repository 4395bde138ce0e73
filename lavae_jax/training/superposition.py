"""Superposed scenes, and where the scenes that they are made of have their objects.

λ is a sum over objects (Eq. 4), so two scenes on top of each other are a scene again,
with objects that touch more often than in single scenes. Where two objects touch, h_loc
has one maximum at first; no draw from q then puts an object on the other one, and the
ELBO has no say. The objects that q finds in each of the two scenes alone are a proposal
for both together, which the ELBO is asked to judge.
"""

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax.latents import counts
from lavae_jax.latents.locations import MASKED, at_sites, draw_locations
from lavae_jax.model import LAVAE
from lavae_jax.objectives import reconstruct
from lavae_jax.types import Array, Locations


def partner(tree, axis_name: str | None):
    """What belongs to the image before each one, in the batch of all devices.

    Args:
        tree: arrays [B, ...].
        axis_name: the mapped axis of devices, or None.

    Returns:
        The same tree; the first image's partner is the last.

    >>> import jax.numpy as jnp
    >>> from lavae_jax.training import superposition
    >>> superposition.partner(jnp.array([1, 2, 3]), None).tolist()
    [3, 1, 2]
    """

    def one(a):
        if axis_name is None:
            return jnp.roll(a, 1, axis=0)
        everyone = jnp.roll(lax.all_gather(a, axis_name, tiled=True), 1, axis=0)
        first = lax.axis_index(axis_name) * a.shape[0]
        return lax.dynamic_slice_in_dim(everyone, first, a.shape[0])

    return jax.tree.map(one, tree)


def superpose(x: Array, chosen: Array, axis_name: str | None) -> tuple[Array, Array]:
    """Adds its partner to each chosen image, unless a pixel is lit in both.

    Their sum is then a binary image again. Objects that overlap would be frequent in
    these scenes, which have more objects than others; h_loc would learn to expect them
    wherever there are many objects, and see two in large ones.

    Args:
        x: binary images, [B, H, W, C].
        chosen: [B] bool.
        axis_name: the mapped axis of devices, or None.

    Returns:
        The images, and which were superposed, [B] bool.
    """
    other = partner(x, axis_name)
    overlap = (x.any(axis=-1) & other.any(axis=-1)).any(axis=(1, 2))
    superposed = chosen & ~overlap
    return jnp.where(superposed[:, None, None, None], x + other, x), superposed


def wake(
    model: LAVAE,
    x: Array,
    both: Locations,
    superposed: Array,
    h_loc: Array,
    elbo: Array,
    keys: Array,
    epsilon: Array,
    temperature: float,
) -> Array:
    """What teaches h_loc the objects that q finds in both scenes under an image.

    Their log q is weighted with their share of Σ_k exp(ELBO_k) over the K draws and
    themselves, as in reweighted wake-sleep (Bornschein & Bengio, 2015). So it rises as
    far as the likelihood is higher with them than with the objects that were drawn.

    Args:
        model: bound to its variables.
        x: the images, [B, H, W, C].
        both: what `objects_of_both` finds in them.
        superposed: which of them are superposed, [B] bool.
        h_loc: location logits of x, [B, H, W].
        elbo: of the draws, nats, [B, K].
        keys: [B], one per image.
        epsilon: ε of the likelihood.
        temperature: T of `counts.draw_n`.

    Returns:
        The mean of the weighted log q over all images, nats.
    """
    log_q = both.log_q.sum(axis=1) + counts.log_q_present(
        h_loc, both, model.count_threshold, temperature
    )
    n = both.active.sum(axis=1)
    terms = reconstruct(model, x, both, n, keys, epsilon).terms
    # p(n) is left out for superposed images, see `step.elbo_step`.
    all_elbo = jnp.concatenate([elbo, (terms.elbo + terms.kl_n)[:, None]], axis=1)
    share = jax.nn.softmax(lax.stop_gradient(all_elbo), axis=1)[:, -1]
    # Sites that exclude each other can't be drawn together.
    possible = superposed & (log_q > MASKED / 2)
    return jnp.where(possible, share * log_q, 0).mean()


def objects_of_both(
    model: LAVAE, h_single: Array, superposed: Array, h_loc: Array
) -> Locations:
    """The most likely sites of an image's objects and of its partner's.

    Args:
        model: LAVAE.
        h_single: location logits of the images before they were superposed, [B, H, W].
        superposed: which were, [B] bool.
        h_loc: location logits of the images as they are now, [B, H, W].

    Returns:
        Locations [B, ...] with the densities that q has there; at most M objects.
    """
    h_single = lax.stop_gradient(h_single)
    likely = draw_locations(
        h_single,
        model.count(h_single),
        model.max_objects,
        keys=None,
        exclusion_radius=model.exclusion_radius,
    )
    other = partner((likely.site, likely.active), model.axis_name)
    site = jnp.concatenate([likely.site, other[0]], axis=1)
    active = jnp.concatenate([likely.active, other[1] & superposed[:, None]], axis=1)
    first = jnp.argsort(~active, axis=1, stable=True)[:, : model.max_objects]
    site, active = (jnp.take_along_axis(a, first, axis=1) for a in (site, active))
    return at_sites(
        h_loc,
        site,
        active,
        exclusion_radius=model.exclusion_radius,
        capacity=model.capacity(h_loc.shape[0]),
    )
