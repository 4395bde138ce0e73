"""The training objective (Eq. 6, Appendix A) and the bound of Table 1."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import background as backgrounds
from lavae_jax import distributions
from lavae_jax.latents import appearance as appearances
from lavae_jax.latents import counts
from lavae_jax.latents.locations import draw_prior, kl_locations, log_p_of_sites
from lavae_jax.model import LAVAE
from lavae_jax.types import Appearance, Array, Locations, Variables, hard_locations


class ElboTerms(NamedTuple):
    """The terms of Eq. 6 per image, nats, each [B]."""

    log_px: Array
    kl_app: Array
    kl_loc: Array
    kl_n: Array
    kl_background: Array | None = None  # None where the background has no latent

    @property
    def elbo(self) -> Array:
        """Returns the bound, log p(x | z) less all KL terms, [B]."""
        elbo = self.log_px - self.kl_app - self.kl_loc - self.kl_n
        return elbo if self.kl_background is None else elbo - self.kl_background


def reconstruct(
    model: LAVAE,
    x: Array,
    locations: Locations,
    n: Array,
    keys: Array,
    noise: Array | float | None = None,
    train: bool = False,
) -> ElboTerms:
    """Computes the terms of Eq. 6 for given locations, with one draw of z_app each.

    Args:
        model: bound to its variables.
        x: images, [B, H, W, C].
        locations: K draws from q(z_loc | x) for each image, [B · K, ...], draws of the
            same image in a row; or the locations that the warm-up gives.
        n: [B · K] int32, the numbers of objects, which train p(n).
        keys: [B · K], one per draw.
        noise: ε or σ of the likelihood, by default the model's.
        train: whether batch statistics are used and updated.

    Returns:
        The terms of every draw, [B · K] each.
    """
    appearance = model.appearance(model.appearance_features(x, train), locations)
    num_draws = len(keys) // x.shape[0]
    repeated = partial(jnp.repeat, repeats=num_draws, axis=0)
    background = jax.tree.map(repeated, model.background_posterior(x))
    z_app = appearances.draw(appearance, keys)
    canvas = model.paint(z_app, backgrounds.draw(background, keys), locations, train)
    return ElboTerms(
        log_px=model.log_likelihood(repeated(x), canvas, noise),
        kl_app=appearances.kl(appearance).sum(axis=-1),
        kl_loc=kl_locations(locations, model.num_sites, model.log_prior_of_sites()),
        kl_n=-model.log_p_n(n),
        kl_background=background and appearances.kl(background),
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


class LogRatios(NamedTuple):
    """The parts of a log importance weight that depend on draws of z_app and z_bg, [B].

    They are log p(x | z), and log p − log q of the draws of z_app and of z_bg (None
    where the background has no latent), nats.
    """

    log_px: Array
    app: Array
    background: Array | None

    @property
    def total(self) -> Array:
        """Returns their sum, [B]."""
        total = self.log_px + self.app
        return total if self.background is None else total + self.background


def log_ratios(
    model: LAVAE,
    x: Array,
    appearance: Appearance,
    background: Appearance | None,
    locations: Locations,
    keys: Array,
    noise: Array | float | None = None,
) -> LogRatios:
    """Draws z_app and z_bg, and computes their part of a log importance weight.

    `appearance` holds the parameters of q(z_app | z_loc, x) at `locations`, a draw from
    q(z_loc | x), and `background` those of q(z_bg | x). The other arguments are those
    of `reconstruct`.
    """
    z_app = appearances.draw(appearance, keys)
    z_background = backgrounds.draw(background, keys)
    canvas = model.paint(z_app, z_background, locations)
    of_slots = jnp.where(locations.active, appearances.log_ratio(appearance, z_app), 0)
    return LogRatios(
        log_px=model.log_likelihood(x, canvas, noise),
        app=of_slots.sum(axis=-1),
        background=background and appearances.log_ratio(background, z_background),
    )


def importance_bound(
    model: LAVAE,
    x: Array,
    locations: Locations,
    n: Array,
    keys: Array,
    num_draws: int,
    noise: Array | float | None = None,
) -> tuple[ElboTerms, Array]:
    """Computes the bound log 1/K Σ_k w_k of K draws of z_app at given locations.

    `locations` is one draw from q(z_loc | x) per image, and K is `num_draws`. The other
    arguments are those of `reconstruct`.

    Returns:
        The ELBO's terms, means over the K draws, and the mean bound over the images.
    """
    appearance = model.appearance(model.appearance_features(x), locations)
    background = model.background_posterior(x)
    keys = jax.vmap(lambda key: jax.random.split(key, num_draws))(keys)
    repeated = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, num_draws, axis=0),
        (x, appearance, background, locations),
    )
    draws = log_ratios(model, *repeated, keys.reshape(-1), noise)
    draws = jax.tree.map(lambda values: values.reshape(keys.shape), draws)
    terms = ElboTerms(
        log_px=draws.log_px.mean(axis=1),
        kl_app=-draws.app.mean(axis=1),
        kl_loc=kl_locations(locations, model.num_sites, model.log_prior_of_sites()),
        kl_n=-model.log_p_n(n),
        kl_background=(
            None if draws.background is None else -draws.background.mean(axis=1)
        ),
    )
    log_w = jax.nn.logsumexp(draws.total, axis=1) - math.log(num_draws)
    return terms, (log_w - terms.kl_loc - terms.kl_n).mean()


def before_draws(
    model: LAVAE, x: Array
) -> tuple[Array, Array, Array, Appearance | None, Array]:
    """Computes what is the same for every draw from q(z | x), for images [B, H, W, C].

    Returns:
        h_loc [B, H, W], n̂ [B], what `model.appearance` reads, the parameters of
        q(z_bg | x) or None, and log p(n̂) [B], nats.
    """
    h_loc = model.location_logits(x)
    features, background = model.appearance_features(x), model.background_posterior(x)
    n = model.count(h_loc)
    return h_loc, n, features, background, model.log_p_n(n)


def log_weights(
    model: LAVAE, variables: Variables, x: Array, keys: Array, num_samples: int
) -> Array:
    """Computes log importance weights log p(x, z) − log q(z | x) of draws z ~ q.

    log w = log p(x|z) + log p(z_app) + log p(z_loc|n̂) + log p(n̂) − log q(z_app)
    − log q(z_loc), and the same for a background with a latent. The draws are exact and
    made one after the other, so that memory does not grow with their number, K.

    Returns:
        [K, B], nats. log mean exp over K is the bound of Table 1.
    """
    h_loc, n, features, background, log_p_n = before_draws(model.bind(variables), x)

    def one_sample(index):
        # It is bound again: no module may be used across JAX's transformations.
        bound = model.bind(variables)
        sample_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        key_loc, key_app = jax.vmap(jax.random.split)(sample_keys).T
        locations = bound.locations(h_loc, n, key_loc)
        appearance = bound.appearance(features, locations)
        draws = log_ratios(bound, x, appearance, background, locations, key_app)
        log_prior = bound.log_prior_of_sites()
        log_p = log_p_n + log_p_of_sites(locations, model.num_sites, log_prior)
        return draws.total + log_p - locations.log_q.sum(axis=-1)

    return lax.map(one_sample, jnp.arange(num_samples))


def sample_prior(
    model: LAVAE, variables: Variables, keys: Array, prior_n: Array | None = None
) -> tuple[Array, Locations, Array, Array | None]:
    """Draws n, z_loc, z_app and z_bg from the prior, Eq. 1 to 3, with [B] keys.

    The [M + 1] probabilities `prior_n` take the place of the learned ones.

    Returns:
        n [B] int32, the locations, z_app [B, M, L], and z_bg [B, dim], or None where
        the background has no latent.
    """
    logits = variables["params"]["prior_n_logits"]
    if prior_n is not None:
        logits = jnp.log(prior_n)
    key_n, key_z = jax.vmap(jax.random.split)(keys).T
    key_loc, key_app = jax.vmap(jax.random.split)(key_z).T
    p_n = distributions.Categorical(logits=logits)
    n = jax.vmap(lambda key: p_n.sample(seed=key))(key_n).astype(jnp.int32)
    active = counts.active_slots(n, model.max_objects)
    log_prior = model.bind(variables).log_prior_of_sites()
    site = draw_prior(n, key_loc, model.num_sites, model.max_objects, log_prior)
    shape = (model.max_objects, model.app_dim)
    z_app = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(key_app)
    z_app = jnp.where(active[..., None], z_app, 0)
    z_background = None
    if dim := model.background_dim:
        standard = Appearance(*jnp.zeros((2, len(keys), dim), jnp.float32))
        z_background = backgrounds.draw(standard, key_app)
    return n, hard_locations(site, active), z_app, z_background
