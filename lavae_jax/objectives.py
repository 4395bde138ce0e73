"""The training objective (Eq. 6, Appendix A) and the bound of Table 1."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import distributions
from lavae_jax.latents import appearance as appearances
from lavae_jax.latents import counts
from lavae_jax.latents.locations import draw_uniform, kl_locations, log_p_locations
from lavae_jax.model import LAVAE
from lavae_jax.types import Appearance, Array, Locations, Variables, hard_locations


class ElboTerms(NamedTuple):
    """The terms of Eq. 6 per image, nats, each [B]."""

    log_px: Array
    kl_app: Array
    kl_loc: Array
    kl_n: Array

    @property
    def elbo(self) -> Array:
        """Returns the bound, log p(x | z) − KL_app − KL_loc − KL_n, [B]."""
        return self.log_px - self.kl_app - self.kl_loc - self.kl_n


def reconstruct(
    model: LAVAE,
    x: Array,
    locations: Locations,
    n: Array,
    keys: Array,
    epsilon: Array | float | None = None,
    train: bool = False,
) -> ElboTerms:
    """Computes the terms of Eq. 6 for given locations, with one draw of z_app each.

    Args:
        model: bound to its variables.
        x: binary images, [B, H, W, C].
        locations: K draws from q(z_loc | x) for each image, [B · K, ...], draws of the
            same image in a row; or the locations that the warm-up gives.
        n: [B · K] int32, the numbers of objects, which train p(n).
        keys: [B · K], one per draw.
        epsilon: ε of the likelihood, by default the model's.
        train: whether batch statistics are used and updated.

    Returns:
        The terms of every draw, [B · K] each.
    """
    appearance = model.appearance(model.appearance_features(x, train), locations)
    z_app = appearances.draw(appearance, keys)
    canvas = model.canvas(model.sprites(z_app, locations.active, train), locations)
    x = jnp.repeat(x, canvas.shape[0] // x.shape[0], axis=0)
    return ElboTerms(
        log_px=model.log_likelihood(x, canvas, epsilon),
        kl_app=appearances.kl(appearance).sum(axis=-1),
        kl_loc=kl_locations(locations, model.num_sites),
        kl_n=-model.log_p_n(n),
    )


def leave_one_out(elbo: Array, limit: float) -> Array:
    """Computes the score function's weights: the ELBO less the other draws' mean.

    The gradient of E_q[f] is E_q[∇f + (f − b) ∇log q] for any b that does not depend on
    the draw itself; the mean of an image's other draws is one that takes most of the
    variance away (Kool et al., "Buy 4 REINFORCE samples, get a baseline for free!",
    2019). Cutting it at ± limit keeps single draws, which cost thousands of nats early
    on, from deciding a step.

    Args:
        elbo: nats, [B, K].
        limit: nats.

    Returns:
        [B, K], constants; 0 where K = 1.
    """
    elbo, num_draws = lax.stop_gradient(elbo), elbo.shape[1]
    if num_draws == 1:
        return jnp.zeros_like(elbo)
    others = (elbo.sum(axis=1, keepdims=True) - elbo) / (num_draws - 1)
    return jnp.clip(elbo - others, -limit, limit)


def elbo(model: LAVAE, variables: Variables, x: Array, keys: Array) -> ElboTerms:
    """Estimates the terms of Eq. 6, [B] each, by one exact draw per image and key."""
    bound = model.bind(variables)
    key_loc, key_app = jax.vmap(jax.random.split)(keys).T
    h_loc = bound.location_logits(x)
    n = bound.count(h_loc)
    locations = bound.locations(h_loc, n, key_loc)
    return reconstruct(bound, x, locations, n, key_app)


def appearance_log_weights(
    model: LAVAE,
    x: Array,
    appearance: Appearance,
    locations: Locations,
    keys: Array,
    epsilon: Array | float | None = None,
) -> tuple[Array, Array]:
    """Computes the part of a log importance weight that depends on a draw of z_app.

    `appearance` holds the parameters of q(z_app | z_loc, x) at `locations`, a draw from
    q(z_loc | x). The other arguments are those of `reconstruct`.

    Returns:
        log p(x | z) and log p(z_app) − log q(z_app | z_loc, x), nats, each [B].
    """
    z_app = appearances.draw(appearance, keys)
    canvas = model.canvas(model.sprites(z_app, locations.active), locations)
    log_p = appearances.prior(model.app_dim).log_prob(z_app)
    log_ratio = log_p - appearances.posterior(appearance).log_prob(z_app)
    log_ratio = jnp.where(locations.active, log_ratio, 0).sum(axis=-1)
    return model.log_likelihood(x, canvas, epsilon), log_ratio


def importance_bound(
    model: LAVAE,
    x: Array,
    locations: Locations,
    n: Array,
    keys: Array,
    num_draws: int,
    epsilon: Array | float | None = None,
) -> tuple[ElboTerms, Array]:
    """Computes the bound log 1/K Σ_k w_k of K draws of z_app at given locations.

    `locations` is one draw from q(z_loc | x) per image, and K is `num_draws`. The other
    arguments are those of `reconstruct`.

    Returns:
        The ELBO's terms, means over the K draws, and the mean bound over the images.
    """
    appearance = model.appearance(model.appearance_features(x), locations)
    keys = jax.vmap(lambda key: jax.random.split(key, num_draws))(keys)
    repeated = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, num_draws, axis=0), (x, appearance, locations)
    )
    draws = appearance_log_weights(model, *repeated, keys.reshape(-1), epsilon)
    log_px, log_ratio = (values.reshape(keys.shape) for values in draws)
    terms = ElboTerms(
        log_px=log_px.mean(axis=1),
        kl_app=-log_ratio.mean(axis=1),
        kl_loc=kl_locations(locations, model.num_sites),
        kl_n=-model.log_p_n(n),
    )
    log_w = jax.nn.logsumexp(log_px + log_ratio, axis=1) - math.log(num_draws)
    return terms, (log_w - terms.kl_loc - terms.kl_n).mean()


def log_weights(
    model: LAVAE, variables: Variables, x: Array, keys: Array, num_samples: int
) -> Array:
    """Computes log importance weights log p(x, z) − log q(z | x) of draws z ~ q.

    log w = log p(x|z) + log p(z_app) + log p(z_loc|n̂) + log p(n̂) − log q(z_app)
    − log q(z_loc). The draws are exact and made one after the other, so that memory
    does not grow with their number, K.

    Returns:
        [K, B], nats. log mean exp over K is the bound of Table 1.
    """
    bound = model.bind(variables)
    h_loc = bound.location_logits(x)
    features = bound.appearance_features(x)
    n = bound.count(h_loc)
    prior = log_p_locations(n, model.num_sites, model.max_objects) + bound.log_p_n(n)

    def one_sample(index):
        # It is bound again: no module may be used across JAX's transformations.
        bound = model.bind(variables)
        sample_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        key_loc, key_app = jax.vmap(jax.random.split)(sample_keys).T
        locations = bound.locations(h_loc, n, key_loc)
        log_px, log_ratio = appearance_log_weights(
            bound, x, bound.appearance(features, locations), locations, key_app
        )
        return log_px + log_ratio + prior - locations.log_q.sum(axis=-1)

    return lax.map(one_sample, jnp.arange(num_samples))


def sample_prior(
    model: LAVAE, variables: Variables, keys: Array, prior_n: Array | None = None
) -> tuple[Array, Locations, Array]:
    """Draws n, z_loc and z_app from the prior, Eq. 1 to 3, with [B] keys.

    The [M + 1] probabilities `prior_n` take the place of the learned ones.

    Returns:
        n [B] int32, the locations, and z_app [B, M, L].
    """
    logits = variables["params"]["prior_n_logits"]
    if prior_n is not None:
        logits = jnp.log(prior_n)
    key_n, key_z = jax.vmap(jax.random.split)(keys).T
    key_loc, key_app = jax.vmap(jax.random.split)(key_z).T
    p_n = distributions.Categorical(logits=logits)
    n = jax.vmap(lambda key: p_n.sample(seed=key))(key_n).astype(jnp.int32)
    active = counts.active_slots(n, model.max_objects)
    site = draw_uniform(n, key_loc, model.num_sites, model.max_objects)
    shape = (model.max_objects, model.app_dim)
    z_app = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(key_app)
    z_app = jnp.where(active[..., None], z_app, 0)
    return n, hard_locations(site, active), z_app
