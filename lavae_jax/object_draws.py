"""A tighter bound on log p(x) for scenes of many objects, which are drawn one by one.

A draw of a whole scene is as good as its worst object, so that of 100 draws of seven
objects only one or two carry all the weight. But the canvas is a sum of sprites: here
the objects are drawn in turn. For given locations, and with the appearance of every
later object at its mean μ,

    γ_i(z_1, ..., z_i) = p(x | z_1, ..., z_i, μ_{i+1}, ..., μ_n) Π_{j ≤ i} p(z_j).

Object i gets K candidates from q(z_app^i), with the weights

    w_k = γ_i(z_1, ..., z_{i−1}, z_i^k) / (γ_{i−1}(z_1, ..., z_{i−1}) q(z_i^k)).

Their mean is a factor of the estimate, and one of them, chosen with a probability in
proportion to its weight, is kept as z_i. The estimate γ_0 Π_i 1/K Σ_k w_k has the mean
p(x | z_loc), so it takes the place of the weight of a draw in the importance-weighted
bound. This is sequential Monte Carlo over the objects (Doucet and Johansen, "A Tutorial
on Particle Filtering and Smoothing", 2009) where all candidates share their past.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import background as backgrounds
from lavae_jax import likelihood
from lavae_jax.latents import appearance as appearances
from lavae_jax.latents.locations import log_p_of_sites
from lavae_jax.model import LAVAE
from lavae_jax.objectives import before_draws
from lavae_jax.types import Appearance, Array, Locations, Variables


def log_weights(
    model: LAVAE,
    variables: Variables,
    x: Array,
    keys: Array,
    num_samples: int,
    num_candidates: int,
) -> Array:
    """Estimates log p(x) by draws of z_loc, each with several draws of every object.

    The arguments are those of `objectives.log_weights`, and the number of candidates.

    Returns:
        [num_samples, B], nats. log mean exp over the samples is a lower bound on
        log p(x) in expectation.
    """
    h_loc, n, features, background, log_p_n = before_draws(model.bind(variables), x)

    def one_sample(index):
        bound = model.bind(variables)
        sample_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        key_loc, key_app, key_choice = jax.vmap(lambda k: jax.random.split(k, 3))(
            sample_keys
        ).T
        locations = bound.locations(h_loc, n, key_loc)
        appearance = bound.appearance(features, locations)
        candidate_keys = jax.vmap(lambda k: jax.random.split(k, num_candidates))(
            key_app
        )
        repeated = jax.tree.map(
            lambda a: jnp.repeat(a, num_candidates, axis=0), appearance
        )
        z_app = appearances.draw(repeated, candidate_keys.reshape(-1))
        z_background = backgrounds.draw(background, key_choice)
        behind = bound.background(z_background)
        log_w = appearance_log_weights(
            bound, x, appearance, locations, z_app, key_choice, behind
        )
        if background is not None:
            log_w += appearances.log_ratio(background, z_background)
        log_prior = bound.log_prior_of_sites()
        log_p = log_p_n + log_p_of_sites(locations, model.num_sites, log_prior)
        return log_w + log_p - locations.log_q.sum(axis=-1)

    return lax.map(one_sample, jnp.arange(num_samples))


def appearance_log_weights(
    model: LAVAE,
    x: Array,
    appearance: Appearance,
    locations: Locations,
    z_app: Array,
    keys: Array,
    behind: Array | None = None,
) -> Array:
    """Estimates log p(x | z_loc) from candidates for the appearance of each object.

    Args:
        model: bound to its variables.
        x: images, [B, H, W, C].
        appearance: parameters of q(z_app | z_loc, x), [B, M, L].
        locations: hard locations, [B, M].
        z_app: K draws from it for each image, [B · K, M, L], in a row.
        keys: [B], which choose the candidates that are kept.
        behind: the background, as `model.background` paints it.

    Returns:
        [B], nats.
    """
    num_images, num_candidates = x.shape[0], z_app.shape[0] // x.shape[0]

    def of_image(a):  # [B · K, M, ...] to [B, M, K, ...]
        return a.reshape(num_images, num_candidates, *a.shape[1:]).swapaxes(1, 2)

    active = jnp.repeat(locations.active, num_candidates, axis=0)
    candidates = of_image(model.layers(z_app, active))
    repeated = jax.tree.map(lambda a: jnp.repeat(a, num_candidates, axis=0), appearance)
    log_ratio = appearances.log_ratio(repeated, z_app)
    at_mean = model.layers(appearance.mu, locations.active)
    canvas = model.canvas(at_mean, locations)
    behind = jnp.broadcast_to(0.0 if behind is None else behind, x.shape)

    def one_image(x, canvas, behind, *slots):
        return _product_of_means(model, x, canvas, behind, slots)

    keys = jax.vmap(lambda key: jax.random.split(key, model.max_objects))(keys)
    sites, log_ratio = locations.site, of_image(log_ratio)
    slots = (sites, locations.active, candidates, at_mean, log_ratio, keys)
    return jax.vmap(one_image)(x, canvas, behind, *slots)


def _product_of_means(model, x, canvas, behind, slots):
    """Computes log γ_0 Π_i 1/K Σ_k w_k for one image x [H, W, C], a scalar.

    The canvas has all objects at their means; the slots are arrays with a first axis M.
    """
    width, side, noise = x.shape[1], slots[2].shape[2], model.noise()
    margin = [(side // 2,) * 2, (side // 2,) * 2, (0, 0)]
    # Pixels of a window beyond the border count for nothing.
    inside = jnp.pad(jnp.ones_like(x), margin)
    x_padded, behind_padded = jnp.pad(x, margin), jnp.pad(behind, margin)

    def log_px(x, canvas, behind):
        painted = model.blend(canvas, behind)
        return likelihood.log_likelihood(x, painted, noise, model.pixels)

    def step(canvas, slot):
        site, active, candidates, at_mean, log_ratio, key = slot
        corner = site // width, site % width, 0

        def window(a):
            return lax.dynamic_slice(a, corner, (side, side, a.shape[-1]))

        others = model.without(window(canvas), at_mean)

        def log_p(layer):
            log_p = log_px(window(x_padded), others + layer, window(behind_padded))
            return (log_p * window(inside)).sum()

        log_w = jax.vmap(log_p)(candidates) - log_p(at_mean) + log_ratio
        kept = candidates[jax.random.categorical(key, log_w)]
        canvas = lax.dynamic_update_slice(canvas, others + kept, corner)
        mean = jax.nn.logsumexp(log_w) - math.log(len(log_w))
        return canvas, jnp.where(active, mean, 0)

    log_gamma_0 = log_px(x, canvas, behind).sum()
    _, log_means = lax.scan(step, jnp.pad(canvas, margin), slots)
    return log_gamma_0 + log_means.sum()
