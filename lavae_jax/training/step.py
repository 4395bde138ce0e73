"""The train step: a pure function of state and images, on one device or many."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import refinement, warmup
from lavae_jax.images import to_float
from lavae_jax.latents.locations import draw_locations
from lavae_jax.model import LAVAE
from lavae_jax.objectives import reconstruct
from lavae_jax.training.keys import image_keys
from lavae_jax.training.metrics import (
    TrainMetrics,
    of_reconstruction,
    of_target,
    per_object,
)
from lavae_jax.training.optimizer import Optimizer, Parts, split
from lavae_jax.training.recipe import Phase, Recipe
from lavae_jax.training.schedules import Schedules
from lavae_jax.training.state import TrainState
from lavae_jax.types import Array, Locations, Variables, hard_locations


class _Parts(NamedTuple):
    model: LAVAE
    auxiliary: warmup.AuxiliaryVAE
    optimizer: Optimizer
    schedules: Schedules
    recipe: Recipe
    phase: Phase


def _update_keys(state: TrainState, update: int, parts: _Parts, x: Array) -> Array:
    """A key per image for an update of a step, [B]."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), update)
    return image_keys(key, x.shape[0], parts.model.axis_name)


def _peaks(parts: _Parts, kl_map: Array) -> tuple[Array, Array]:
    """Where the KL map, [B, H, W], says that objects are; see `kl_peaks`."""
    max_objects, size = parts.model.max_objects, parts.recipe.object_size
    return warmup.kl_peaks(kl_map, max_objects, size)


def _proposals(parts: _Parts, kl_map: Array) -> Locations:
    """Hard locations at the peaks of the KL map, [B, H, W]."""
    height, width = kl_map.shape[1:]
    centres, valid = _peaks(parts, kl_map)
    nearest = jnp.round(centres).astype(jnp.int32)
    row = jnp.clip(nearest[..., 0], 0, height - 1)
    column = jnp.clip(nearest[..., 1], 0, width - 1)
    site = jnp.where(valid, row * width + column, 0)
    z_loc = None
    if parts.recipe.draws != "mode":
        z_loc = jax.nn.one_hot(site, parts.model.num_sites) * valid[..., None]
    return hard_locations(site, valid)._replace(z_loc=z_loc)


def _locations(
    parts: _Parts, step: Array, h_loc: Array, n: Array, keys: Array, kl_map: Array
) -> Locations:
    """Draws the locations, or takes the proposals while the warm-up lasts."""
    recipe, model = parts.recipe, parts.model
    if parts.phase.propose:
        return _proposals(parts, kl_map)
    return draw_locations(
        h_loc,
        n,
        model.max_objects,
        keys=None if recipe.draws == "mode" else keys,
        tau=None if recipe.draws == "mode" else parts.schedules.tau(step),
        straight_through=recipe.draws == "straight_through",
        exclusion_radius=model.exclusion_radius,
    )


def _location_target(
    parts: _Parts,
    model: LAVAE,
    step: Array,
    x: Array,
    result,
    kl_map: Array,
    epsilon: Array,
) -> tuple[Array, refinement.Target | None]:
    """The map that h_loc before γ is regressed on, [B, H, W]."""
    recipe = parts.recipe
    if recipe.target == "kl_map":
        return kl_map, None
    refined = None
    if parts.phase.propose or not recipe.refine:
        centres, valid = _peaks(parts, kl_map)
    else:
        refined = refinement.refine(model, x, result, epsilon, recipe.object_size)
        centres, valid = refined.centres, refined.valid
    sigma = parts.schedules.bump_sigma(step)
    target = warmup.bumps(centres, valid, recipe.bump_height, sigma, x.shape[1:3])
    return target, refined


def _lavae_loss(
    params: Variables,
    parts: _Parts,
    batch_stats: Variables,
    step: Array,
    x: Array,
    keys: Array,
    kl_map: Array,
):
    """−ELBO plus the squared loss on h_loc: mean over the images of this device."""
    key_force, key_loc, key_app = jax.vmap(lambda k: jax.random.split(k, 3))(keys).T
    epsilon = parts.schedules.epsilon(step)

    def forward(model):
        h_loc = model.location_logits(x, train=True)
        if not parts.phase.location:
            h_loc = lax.stop_gradient(h_loc)
        n_hat = model.count(h_loc)
        forced = jax.vmap(jax.random.bernoulli, (0, None))(
            key_force, parts.schedules.force_one_prob(step)
        )
        n = jnp.where(forced, 1, n_hat)
        locations = _locations(parts, step, h_loc, n, key_loc, kl_map)
        result = reconstruct(model, x, locations, n_hat, key_app, epsilon, train=True)
        if not _is_taught(parts):
            return result, jnp.zeros(x.shape[0]), None
        target, refined = _location_target(
            parts, model, step, x, result, kl_map, epsilon
        )
        error = (h_loc / model.gamma - lax.stop_gradient(target)) ** 2
        return result, error.sum(axis=(1, 2)), refined

    forward = nn.apply(forward, parts.model, mutable=["batch_stats"])
    variables = {"params": params, "batch_stats": batch_stats}
    (result, error, refined), updates = forward(variables)
    terms = result.terms
    weight = parts.schedules.location_weight(step)
    loss = (weight * error - _trained_elbo(parts, terms)).mean()
    return loss, (result, error, refined, updates.get("batch_stats", {}))


def _is_taught(parts: _Parts) -> bool:
    """Whether h_loc has a target: without refinement, as long as there is a KL map."""
    phase = parts.phase
    return phase.location and (phase.auxiliary or phase.propose or parts.recipe.refine)


def _trained_elbo(parts: _Parts, terms) -> Array:
    """The ELBO, less its location term where nothing else tells h_loc where to look.

    Without a gradient of the likelihood through the draws, KL_loc would only pull h_loc
    towards the uniform prior.
    """
    if parts.recipe.draws == "mode":
        terms = terms._replace(kl_loc=lax.stop_gradient(terms.kl_loc))
    return terms.elbo


def _auxiliary_loss(params, auxiliary, x, keys):
    log_px, kl = auxiliary.apply({"params": params}, x, keys)
    return (kl - log_px).mean()


def _auxiliary_step(parts: _Parts, params, x, keys):
    """Loss, gradient and KL map of the auxiliary VAE, as far as the phase has them."""
    loss, grad, kl_map = None, None, None
    if parts.phase.auxiliary:
        loss_and_grad = jax.value_and_grad(_auxiliary_loss)
        loss, grad = loss_and_grad(params, parts.auxiliary, x, keys)
    if parts.phase.auxiliary or parts.phase.propose:
        kl_map = parts.auxiliary.apply({"params": params}, x, method="kl_map")
    return loss, grad, lax.stop_gradient(kl_map)


def _lavae_step(parts: _Parts, state: TrainState, x, keys, kl_map):
    """Locations, gradients by part, batch statistics and metrics of LAVAE."""
    (loss, aux), grad = jax.value_and_grad(_lavae_loss, has_aux=True)(
        state.params["lavae"], parts, state.batch_stats, state.step, x, keys, kl_map
    )
    result, error, target, batch_stats = aux
    grads = split({"lavae": grad, "auxiliary": None})
    metrics = of_reconstruction(TrainMetrics(loss), result)
    metrics = metrics._replace(epsilon=_now(parts.schedules.epsilon, state))
    if parts.recipe.draws != "mode":
        metrics = metrics._replace(tau=_now(parts.schedules.tau, state))
    if _is_taught(parts):
        metrics = metrics._replace(location_loss=error.mean())
    if not parts.phase.location:
        grads = grads._replace(location=None)
    if target is not None:
        metrics = of_target(metrics, target)
    locations = jax.tree.map(lax.stop_gradient, result.locations)
    return locations, grads, batch_stats, metrics


def _now(schedule, state: TrainState) -> Array:
    return jnp.asarray(schedule(state.step), jnp.float32)


def _appearance_loss(rest, parts: _Parts, state: TrainState, x, keys, locations):
    """−ELBO at given locations; a function of all parameters but those of h_loc."""
    epsilon = parts.schedules.epsilon(state.step)

    def forward(model):
        n = locations.active.sum(axis=1)
        return reconstruct(model, x, locations, n, keys, epsilon, train=True)

    params = {**state.params["lavae"], **rest}
    result, updates = nn.apply(forward, parts.model, mutable=["batch_stats"])(
        {"params": params, "batch_stats": state.batch_stats}
    )
    batch_stats = {**state.batch_stats, **updates.get("batch_stats", {})}
    # n is what was drawn, which may be forced, and has nothing to teach p(n).
    terms = result.terms._replace(kl_n=lax.stop_gradient(result.terms.kl_n))
    return -terms.elbo.mean(), batch_stats


def _average(parts: _Parts, tree):
    """The mean over devices."""
    axis_name = parts.model.axis_name
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def _updated(parts: _Parts, state: TrainState, grads: Parts, batch_stats):
    """The state after one update."""
    params, opt_state = parts.optimizer.update(
        _average(parts, grads), state.opt_state, state.params, state.step
    )
    return state._replace(params=params, batch_stats=batch_stats, opt_state=opt_state)


def _appearance_update(parts: _Parts, state: TrainState, update: int, x, locations):
    """The state after one more update of everything but h_loc."""
    keys = _update_keys(state, update, parts, x)
    grad, batch_stats = jax.grad(_appearance_loss, has_aux=True)(
        split(state.params).rest, parts, state, x, keys, locations
    )
    return _updated(parts, state, Parts(None, grad, None), batch_stats)


def make_train_step(
    model: LAVAE,
    auxiliary: warmup.AuxiliaryVAE,
    optimizer: Optimizer,
    schedules: Schedules,
    recipe: Recipe,
    phase: Phase,
) -> Callable[[TrainState, Array], tuple[TrainState, TrainMetrics]]:
    """Makes the train step of a phase.

    Args:
        model: LAVAE; its `axis_name` is the mapped axis of devices, or None.
        auxiliary: the warm-up's VAE.
        optimizer: for the parameters of both.
        schedules: what changes with the step.
        recipe: the rest of how it is trained.
        phase: what the step does.

    Returns:
        From a state and images (uint8 or binary float, [B, H, W, C], this device's
        share of the batch) to the next state and metrics, the same on every device.
    """
    parts = _Parts(model, auxiliary, optimizer, schedules, recipe, phase)

    def train_step(state, images):
        x = to_float(images)
        keys = _update_keys(state, 0, parts, x)
        loss, grad, kl_map = _auxiliary_step(parts, state.params["auxiliary"], x, keys)
        if not phase.lavae:
            grads, metrics = Parts(None, None, grad), TrainMetrics(loss)
            state = _updated(parts, state, grads, state.batch_stats)
        else:
            locations, grads, batch_stats, metrics = _lavae_step(
                parts, state, x, keys, kl_map
            )
            state = _updated(parts, state, grads._replace(auxiliary=grad), batch_stats)
            for update in range(1, recipe.appearance_updates):
                state = _appearance_update(parts, state, update, x, locations)
            if phase.auxiliary:
                metrics = metrics._replace(loss=metrics.loss + loss)
        metrics = per_object(_average(parts, metrics._replace(auxiliary_loss=loss)))
        return state._replace(step=state.step + 1), metrics

    return train_step
