"""The steps of Appendix B's warm-up, after which the ELBO alone teaches h_loc."""

import jax
import jax.numpy as jnp

from lavae_jax import warmup
from lavae_jax.objectives import reconstruct
from lavae_jax.training.appearance_steps import appearance_updates
from lavae_jax.training.metrics import TrainMetrics, of_terms
from lavae_jax.training.optimizer import Parts, lavae_parts
from lavae_jax.training.setup import Setup
from lavae_jax.training.state import TrainState
from lavae_jax.types import Array, Locations, hard_locations


def auxiliary_step(
    setup: Setup, state: TrainState, x: Array, keys: Array
) -> tuple[TrainState, TrainMetrics]:
    """Trains the auxiliary VAE."""

    def loss(params):
        log_px, kl = setup.auxiliary.apply({"params": params}, x, keys)
        return (kl - log_px).mean()

    value, grad = jax.value_and_grad(loss)(state.params["auxiliary"])
    state = setup.update(state, Parts(auxiliary=grad), state.batch_stats)
    return state, TrainMetrics(value, auxiliary_loss=value)


def guided_step(
    setup: Setup, state: TrainState, x: Array, keys: Array
) -> tuple[TrainState, TrainMetrics]:
    """Trains LAVAE with its objects at the peaks of the auxiliary VAE's KL map."""
    model, recipe, size = setup.model, setup.recipe, x.shape[1:3]
    kl_map = setup.auxiliary.apply(
        {"params": state.params["auxiliary"]}, x, method="kl_map"
    )
    centres, valid = warmup.kl_peaks(kl_map, model.max_objects, recipe.object_size)
    locations, n = _at(centres, valid, size), valid.sum(axis=1)
    target = kl_map
    if recipe.target == "bumps":
        target = warmup.bumps(
            centres, valid, recipe.bump_height, recipe.bump_sigma, size
        )

    def loss(params):
        def forward(model):
            h_loc = model.location_logits(x, train=True)
            epsilon = setup.epsilon(state)
            terms = reconstruct(model, x, locations, n, keys, epsilon, train=True)
            error = (h_loc / model.gamma - target) ** 2
            return terms, error.sum(axis=(1, 2)).mean()

        (terms, error), batch_stats = setup.apply(state, params, forward)
        loss = recipe.location_weight * error - terms.elbo.mean()
        return loss, (terms, error, batch_stats)

    (value, aux), grad = jax.value_and_grad(loss, has_aux=True)(state.params["lavae"])
    terms, error, batch_stats = aux
    state = setup.update(state, lavae_parts(grad), batch_stats)
    state = appearance_updates(setup, state, x, locations)
    return state, of_terms(TrainMetrics(value, location_loss=error), terms, n)


def _at(centres: Array, valid: Array, size: tuple[int, int]) -> Locations:
    """Hard locations at the pixels nearest to centres [B, M, 2]."""
    height, width = size
    nearest = jnp.round(centres).astype(jnp.int32)
    row = jnp.clip(nearest[..., 0], 0, height - 1)
    column = jnp.clip(nearest[..., 1], 0, width - 1)
    return hard_locations(row * width + column, valid)
