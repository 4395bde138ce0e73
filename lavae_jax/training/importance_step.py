"""The steps at the end of a run that tighten the bound on log p(x)."""

import math

import jax
import jax.numpy as jnp

from lavae_jax.latents.locations import kl_locations
from lavae_jax.model import LAVAE
from lavae_jax.objectives import ElboTerms, appearance_log_weights
from lavae_jax.training import locating
from lavae_jax.training.locating import Setup
from lavae_jax.training.metrics import TrainMetrics, of_terms
from lavae_jax.training.optimizer import Parts, split
from lavae_jax.training.state import TrainState, restarted
from lavae_jax.types import Array, Locations, Variables


def sampled_log_weights(
    model: LAVAE,
    x: Array,
    locations: Locations,
    keys: Array,
    num_samples: int,
    epsilon: Array | float | None = None,
) -> tuple[Array, Array]:
    """`appearance_log_weights` of K draws of the appearances at given locations.

    Args:
        model: bound to its variables.
        x: binary images, [B, H, W, C].
        locations: hard or relaxed, the same for all draws.
        keys: [B], one per image.
        num_samples: K.
        epsilon: ε of the likelihood, by default the model's.

    Returns:
        log p(x | z) and log p(z_app) − log q(z_app | z_loc, x), nats, each [B, K].
    """
    appearance = model.appearance(model.appearance_features(x), locations)
    keys = jax.vmap(lambda key: jax.random.split(key, num_samples))(keys)
    x, appearance, locations = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, num_samples, axis=0), (x, appearance, locations)
    )
    draws = appearance_log_weights(
        model, x, appearance, locations, keys.reshape(-1), epsilon
    )
    log_px, log_ratio = (values.reshape(keys.shape) for values in draws)
    return log_px, log_ratio


def _loss(rest: Variables, setup: Setup, state: TrainState, x: Array, keys: Array):
    """−objective; a function of all parameters but those of h_loc."""
    recipe, epsilon = setup.recipe, setup.schedules.epsilon(state.step)
    variables = {
        "params": {**state.params["lavae"], **rest},
        "batch_stats": state.batch_stats,
    }
    model = setup.model.bind(variables)
    key_loc, key_app = jax.vmap(jax.random.split)(keys).T
    h_loc = model.location_logits(x)
    n = model.count(h_loc)
    locations = locating.locations(setup, state.step, h_loc, n, key_loc, None)
    log_px, log_ratio = sampled_log_weights(
        model, x, locations, key_app, recipe.importance_samples, epsilon
    )
    terms = ElboTerms(
        log_px=log_px.mean(axis=1),
        kl_app=-log_ratio.mean(axis=1),
        kl_loc=kl_locations(locations, model.num_sites),
        kl_n=-model.log_p_n(n),
    )
    log_w = jax.nn.logsumexp(log_px + log_ratio, axis=1) - math.log(log_px.shape[1])
    bound = (log_w - terms.kl_loc - terms.kl_n).mean()
    share = recipe.importance_elbo
    loss = -(share * terms.elbo.mean() + (1 - share) * bound)
    metrics = of_terms(TrainMetrics(loss, bound=bound), terms, locations.active)
    return loss, metrics._replace(epsilon=jnp.asarray(epsilon, jnp.float32))


def importance_step(
    setup: Setup, state: TrainState, x: Array, keys: Array
) -> tuple[TrainState, Parts, Variables, TrainMetrics]:
    """A step of h_app, f_sprite and p(n) on an importance-weighted bound.

    The objective is close to what Table 1 reports, log 1/K Σ_k w_k (Burda et al.,
    "Importance Weighted Autoencoders", 2016), but for draws of z_app alone, at the
    locations where the model sees the objects. It is averaged with the ELBO of the same
    draws (Rainforth et al., "Tighter Variational Bounds are Not Necessarily Better",
    2018): on its own it teaches q(z_app) to draw so widely that single draws are poor.
    Batch normalisation goes by its running
    statistics, as it does when the bound is measured.

    Args:
        setup: of the train step.
        state: with which the step begins.
        x: binary images of this device, [B, H, W, C].
        keys: [B], one per image.

    Returns:
        The state, with fresh moments in the first of these steps, gradients by part,
        batch statistics and metrics.
    """
    state = restarted(state, setup.optimizer, "rest", setup.recipe.importance_after)
    rest = split(state.params).rest
    grad, metrics = jax.grad(_loss, has_aux=True)(rest, setup, state, x, keys)
    return state, Parts(None, grad, None), state.batch_stats, metrics
