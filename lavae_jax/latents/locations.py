"""The locations of objects: Eq. 3, 8 and 11.

Sites are drawn one after the other without replacement. The paper removes each drawn
pixel from the following draws. q may be any distribution; removing a disc around the
pixel (`exclusion_radius`) keeps two draws from landing on one object.

These arguments are the same everywhere:

- h_loc: location logits after γ, [B, H, W].
- n: the number of objects, [B] int32.
- keys: one per image, [B].
- num_sites, max_objects: D, M.
- exclusion_radius: pixels around a drawn site that later draws leave out; 0, the
  paper's, leaves out the site alone.
- capacity: size of the buffer of active slots, see `slots.map_active`; by default all
  slots.

>>> import jax
>>> import jax.numpy as jnp
>>> from lavae_jax.latents import locations
>>> h_loc = jnp.zeros((1, 4, 4)).at[0, [1, 3], [2, 3]].set(40.0)
>>> keys = jax.random.split(jax.random.key(0), 1)
>>> drawn = locations.draw_locations(h_loc, jnp.array([2]), 3, keys=keys)
>>> sorted(drawn.site[0, :2].tolist())  # row 1, column 2; row 3, column 3
[6, 15]
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import distributions, slots
from lavae_jax.latents.counts import active_slots
from lavae_jax.types import Array, Locations

MASKED = -1e9  # a logit that is never drawn, yet with finite gradients


def log_p_locations(n: Array, num_sites: int, max_objects: int) -> Array:
    """Computes Eq. 3: log p(z_loc | n) = −Σ_{i=1..n} log(D − i + 1), nats, [B].

    It is the same for every choice of distinct sites.

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import locations
    >>> log_p = locations.log_p_locations(jnp.array([0, 2]), num_sites=4, max_objects=3)
    >>> print((1 / jnp.exp(log_p)).round())  # 4 · 3 ways to place two objects
    [ 1. 12.]
    """
    steps = jnp.log(num_sites - jnp.arange(max_objects, dtype=jnp.float32))
    total = jnp.concatenate([jnp.zeros(1, steps.dtype), jnp.cumsum(steps)])
    return -total[n]


def log_p_of_sites(
    locations: Locations, num_sites: int, log_prior: Array | None = None
) -> Array:
    """Computes log p(z_loc | n) of drawn sites, nats, [B]: Eq. 3, or a learned prior.

    With `log_prior`, [D], sites are still drawn one after the other without
    replacement, but in proportion to π = exp(log_prior):
    Σ_i [log π(z_i) − log(1 − Σ_{j<i} π(z_j))]. For a relaxed z_i, log π(z_i) is the
    mean over its sites.
    """
    if log_prior is None:
        n = locations.active.sum(axis=-1)
        return log_p_locations(n, num_sites, locations.active.shape[1])
    log_p = log_prior[locations.site]
    drawn = jnp.where(locations.active, jnp.exp(log_p), 0)
    # Of all sites, at least the one that is drawn is left.
    left = jnp.maximum(1 - (jnp.cumsum(drawn, axis=1) - drawn), jnp.exp(log_p))
    left = jnp.where(locations.active, left, 1)  # the logarithm of 0 has no gradient
    if locations.z_loc is not None:
        log_p = locations.z_loc @ log_prior
    return jnp.where(locations.active, log_p - jnp.log(left), 0).sum(axis=1)


def draw_prior(
    n: Array,
    keys: Array,
    num_sites: int,
    max_objects: int,
    log_prior: Array | None = None,
) -> Array:
    """Draws z_loc from the prior: distinct sites, [B, M] int32, 0 beyond n.

    All sites are equally likely, or have the `log_prior` of `log_p_of_sites`.
    """
    p = None if log_prior is None else jnp.exp(log_prior)

    def one_image(key):
        return jax.random.choice(key, num_sites, (max_objects,), replace=False, p=p)

    sites = jax.vmap(one_image)(keys).astype(jnp.int32)
    return jnp.where(active_slots(n, max_objects), sites, 0)


def _disc(site: Array, height: int, width: int, radius: int) -> Array:
    """Marks the sites within `radius` pixels of `site` [B]: [B, D] bool."""
    rows = jnp.arange(height)[None, :] - (site // width)[:, None]
    columns = jnp.arange(width)[None, :] - (site % width)[:, None]
    distance2 = rows[:, :, None] ** 2 + columns[:, None, :] ** 2
    return (distance2 <= radius**2).reshape(site.shape[0], height * width)


def _gumbel(keys: Array, step: Array, size: int) -> Array:
    """Draws standard Gumbel noise [B, size], independent in every image and step."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
    return jax.vmap(lambda key: jax.random.gumbel(key, (size,), jnp.float32))(keys)


def _draw_site(log_b: Array, shape: tuple[int, int], keys: Array, step: Array) -> Array:
    """Draws exactly from Categorical(log_b [B, D]): first the row, then the column.

    This takes H + W random numbers instead of D.
    """
    height, width = shape
    grid = log_b.reshape(-1, height, width)
    noise = _gumbel(keys, step, height + width)
    rows = jax.nn.logsumexp(grid, axis=2) + noise[:, :height]
    row = jnp.argmax(rows, axis=1).astype(jnp.int32)
    columns = jnp.take_along_axis(grid, row[:, None, None], axis=1)[:, 0]
    column = jnp.argmax(columns + noise[:, height:], axis=1).astype(jnp.int32)
    return row * width + column


def _draw_one(h_flat, shape, keys, tau, radius, taken, step):
    """Makes a step of Eq. 11: masks, renormalises, draws; returns the taken sites."""
    logits = jnp.where(taken, MASKED, h_flat)
    relaxed = None
    if keys is not None and tau is None:
        site = _draw_site(logits, shape, keys, step)
    else:
        if keys is not None:
            logits = logits + _gumbel(keys, step, h_flat.shape[1])
        site = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        relaxed = None if tau is None else jax.nn.softmax(logits / tau)
    return taken | _disc(site, *shape, radius), (site, taken, relaxed)


def _densities(
    h_flat: Array, taken: Array, site: Array, active: Array, capacity: int | None
) -> tuple[Array, Array]:
    """Computes log-probabilities of the drawn sites and entropies of q, nats, [B, M].

    They are computed for the active slots alone, which are a fraction of all: the
    softmax over all sites with its gradient is the costliest part of a draw.

    Args:
        h_flat: location logits, [B, D].
        taken: [B, M, D] bool, the sites that were taken when slot i was drawn.
        site: [B, M] int32.
        active: [B, M] bool.
        capacity: size of the buffer of active slots, see `slots.map_active`; None for
            all slots.
    """

    def of_active(module, image, valid, taken, site):
        del module, valid
        log_b = jax.nn.log_softmax(jnp.where(taken, MASKED, h_flat[image]))
        log_q = distributions.Categorical(logits=log_b).log_prob(site)
        # MASKED · 0 is finite, so entropies of masked logits are too.
        entropy = -(jnp.exp(log_b) * log_b).sum(axis=-1)
        return jnp.stack([log_q, entropy], axis=-1)

    capacity = active.size if capacity is None else capacity
    both = slots.map_active(None, of_active, active, (taken, site), capacity)
    return both[..., 0], both[..., 1]


def draw_locations(
    h_loc: Array,
    n: Array,
    max_objects: int,
    *,
    keys: Array | None,
    tau: Array | None = None,
    straight_through: bool = False,
    exclusion_radius: int = 0,
    capacity: int | None = None,
) -> Locations:
    """Draws z_loc from q(z_loc | n, x), Eq. 8 and 11, as a scan over the slots.

    Without keys, the most likely site of every step takes the place of a draw. With
    `tau`, the temperature of the Gumbel-softmax relaxation, draws have a gradient:
    z_loc is relaxed, or with `straight_through` a hard one-hot vector with the gradient
    of the relaxed one. Without `tau` draws are hard, and z_loc is None. The hard argmax
    masks the following steps either way.
    """
    num_images, height, width = h_loc.shape
    num_sites = height * width
    h_flat = h_loc.reshape(num_images, num_sites)
    # Hard sites have no gradient, and neither has the scan that draws them.
    drawn_from = lax.stop_gradient(h_flat) if tau is None else h_flat
    draw_one = partial(
        _draw_one, drawn_from, (height, width), keys, tau, exclusion_radius
    )

    def skip(taken, step):
        del step
        relaxed = None if tau is None else jnp.zeros_like(h_flat)
        return taken, (jnp.zeros(num_images, jnp.int32), taken, relaxed)

    def body(taken, step):
        # Steps beyond the largest n of the batch would be masked out as a whole.
        return lax.cond(step < n.max(), draw_one, skip, taken, step)

    taken = jnp.zeros((num_images, num_sites), bool)
    _, drawn = lax.scan(body, taken, jnp.arange(max_objects))
    site, taken, z_loc = jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), drawn)
    active = active_slots(n, max_objects)
    site = jnp.where(active, site, 0)
    log_q, entropy = _densities(h_flat, taken, site, active, capacity)
    if z_loc is not None:
        z_loc = jnp.where(active[..., None], z_loc, 0)
        if straight_through:
            hard = jax.nn.one_hot(site, num_sites, dtype=z_loc.dtype)
            hard = hard * active[..., None]
            z_loc = z_loc + lax.stop_gradient(hard - z_loc)
    return Locations(site, active, log_q, entropy, z_loc)


def at_sites(
    h_loc: Array,
    site: Array,
    active: Array,
    *,
    exclusion_radius: int = 0,
    capacity: int | None = None,
) -> Locations:
    """Returns what `draw_locations` returns when its hard draws are the given sites.

    They are [B, M] int32 in the order of the draws; `active`, [B, M] bool, is true for
    the first n slots. The log-probability of a site that draws before it have excluded
    is about `MASKED`.
    """
    num_images, height, width = h_loc.shape
    site = jnp.where(active, site, 0)
    disc = partial(_disc, height=height, width=width, radius=exclusion_radius)
    discs = jax.vmap(disc, in_axes=1, out_axes=1)(site)
    taken = jnp.cumsum(discs, axis=1) - discs > 0
    h_flat = h_loc.reshape(num_images, -1)
    log_q, entropy = _densities(h_flat, taken, site, active, capacity)
    return Locations(site, active, log_q, entropy, None)


def kl_locations(
    locations: Locations, num_sites: int, log_prior: Array | None = None
) -> Array:
    """Computes Appendix A's Σ_i [log(D − i + 1) − H(b^i)] given earlier sites, nats.

    Each step is analytic: it has the expectation of the sampled log-ratio, with less
    variance. With `log_prior` the first term is that of the drawn sites, see
    `log_p_of_sites`. The result is [B].
    """
    log_p = log_p_of_sites(locations, num_sites, log_prior)
    return -log_p - locations.entropy.sum(axis=-1)
