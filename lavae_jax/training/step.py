"""The train step: a pure function of state and images, on one device or many."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import warmup
from lavae_jax.images import to_float
from lavae_jax.model import LAVAE
from lavae_jax.objectives import reconstruct
from lavae_jax.training import locating
from lavae_jax.training.importance_step import importance_step
from lavae_jax.training.keys import image_keys
from lavae_jax.training.locating import Setup
from lavae_jax.training.metrics import (
    TrainMetrics,
    of_target,
    of_terms,
    per_object,
)
from lavae_jax.training.optimizer import Optimizer, Parts, split
from lavae_jax.training.recipe import Phase, Recipe
from lavae_jax.training.schedules import Schedules
from lavae_jax.training.state import TrainState
from lavae_jax.training.touching_step import touching_step
from lavae_jax.types import Array, Variables


def _update_keys(state: TrainState, update: int, setup: Setup, x: Array) -> Array:
    """A key per image for an update of a step, [B]."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), update)
    return image_keys(key, x.shape[0], setup.model.axis_name)


def _lavae_loss(
    params: Variables,
    setup: Setup,
    state: TrainState,
    x: Array,
    keys: Array,
    kl_map: Array,
):
    """−ELBO plus the squared loss on h_loc: mean over the images of this device."""
    step = state.step
    key_force, key_loc, key_app = jax.vmap(lambda k: jax.random.split(k, 3))(keys).T
    epsilon = setup.schedules.epsilon(step)

    def forward(model):
        h_loc = model.location_logits(x, train=True)
        if not setup.phase.location:
            h_loc = lax.stop_gradient(h_loc)
        n_hat = model.count(h_loc)
        forced = jax.vmap(jax.random.bernoulli, (0, None))(
            key_force, setup.schedules.force_one_prob(step)
        )
        n = jnp.where(forced, 1, n_hat)
        locations = locating.locations(setup, step, h_loc, n, key_loc, kl_map)
        result = reconstruct(model, x, locations, n_hat, key_app, epsilon, train=True)
        if not _is_taught(setup):
            return result, jnp.zeros(x.shape[0], x.dtype), None
        target, refined = locating.location_target(
            setup, model, step, x, result, kl_map, epsilon
        )
        error = (h_loc / model.gamma - lax.stop_gradient(target)) ** 2
        return result, error.sum(axis=(1, 2)), refined

    forward = nn.apply(forward, setup.model, mutable=["batch_stats"])
    variables = {"params": params, "batch_stats": state.batch_stats}
    (result, error, refined), updates = forward(variables)
    terms = result.terms
    weight = setup.schedules.location_weight(step)
    loss = (weight * error - _trained_elbo(setup, terms)).mean()
    return loss, (result, error, refined, updates.get("batch_stats", {}))


def _is_taught(setup: Setup) -> bool:
    """Whether h_loc has a target: without refinement, as long as there is a KL map."""
    phase = setup.phase
    return phase.location and (phase.auxiliary or phase.propose or setup.recipe.refine)


def _trained_elbo(setup: Setup, terms) -> Array:
    """The ELBO, less its location term where nothing else tells h_loc where to look.

    Without a gradient of the likelihood through the draws, KL_loc would only pull h_loc
    towards the uniform prior.
    """
    if setup.recipe.draws == "mode":
        terms = terms._replace(kl_loc=lax.stop_gradient(terms.kl_loc))
    return terms.elbo


def _auxiliary_loss(params, auxiliary, x, keys):
    log_px, kl = auxiliary.apply({"params": params}, x, keys)
    return (kl - log_px).mean()


def _auxiliary_step(setup: Setup, params, x, keys):
    """Loss, gradient and KL map of the auxiliary VAE, as far as the phase has them."""
    loss, grad, kl_map = None, None, None
    if setup.phase.auxiliary:
        loss_and_grad = jax.value_and_grad(_auxiliary_loss)
        loss, grad = loss_and_grad(params, setup.auxiliary, x, keys)
    if setup.phase.auxiliary or setup.phase.propose:
        kl_map = setup.auxiliary.apply({"params": params}, x, method="kl_map")
    return loss, grad, lax.stop_gradient(kl_map)


def _lavae_step(setup: Setup, state: TrainState, x, keys, kl_map):
    """Locations, gradients by part, batch statistics and metrics of LAVAE."""
    (loss, aux), grad = jax.value_and_grad(_lavae_loss, has_aux=True)(
        state.params["lavae"], setup, state, x, keys, kl_map
    )
    result, error, target, batch_stats = aux
    grads = split({"lavae": grad, "auxiliary": None})
    metrics = of_terms(TrainMetrics(loss), result.terms, result.locations.active)
    metrics = metrics._replace(epsilon=_now(setup.schedules.epsilon, state))
    if setup.recipe.draws != "mode":
        metrics = metrics._replace(tau=_now(setup.schedules.tau, state))
    if _is_taught(setup):
        metrics = metrics._replace(location_loss=error.mean())
    if not setup.phase.location:
        grads = grads._replace(location=None)
    if target is not None:
        metrics = of_target(metrics, target)
    locations = jax.tree.map(lax.stop_gradient, result.locations)
    return locations, grads, batch_stats, metrics


def _now(schedule, state: TrainState) -> Array:
    return jnp.asarray(schedule(state.step), jnp.float32)


def _appearance_loss(rest, setup: Setup, state: TrainState, x, keys, locations):
    """−ELBO at given locations; a function of all parameters but those of h_loc."""
    epsilon = setup.schedules.epsilon(state.step)

    def forward(model):
        n = locations.active.sum(axis=1)
        return reconstruct(model, x, locations, n, keys, epsilon, train=True)

    params = {**state.params["lavae"], **rest}
    result, updates = nn.apply(forward, setup.model, mutable=["batch_stats"])(
        {"params": params, "batch_stats": state.batch_stats}
    )
    batch_stats = {**state.batch_stats, **updates.get("batch_stats", {})}
    # n is what was drawn, which may be forced, and has nothing to teach p(n).
    terms = result.terms._replace(kl_n=lax.stop_gradient(result.terms.kl_n))
    return -terms.elbo.mean(), batch_stats


def _average(setup: Setup, tree):
    """The mean over devices."""
    axis_name = setup.model.axis_name
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def _updated(setup: Setup, state: TrainState, grads: Parts, batch_stats):
    """The state after one update."""
    params, opt_state = setup.optimizer.update(
        _average(setup, grads), state.opt_state, state.params, state.step
    )
    return state._replace(params=params, batch_stats=batch_stats, opt_state=opt_state)


def _appearance_update(setup: Setup, state: TrainState, update: int, x, locations):
    """The state after one more update of everything but h_loc."""
    keys = _update_keys(state, update, setup, x)
    grad, batch_stats = jax.grad(_appearance_loss, has_aux=True)(
        split(state.params).rest, setup, state, x, keys, locations
    )
    return _updated(setup, state, Parts(None, grad, None), batch_stats)


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
    setup = Setup(model, auxiliary, optimizer, schedules, recipe, phase)

    def train_step(state, images):
        x = to_float(images)
        keys = _update_keys(state, 0, setup, x)
        if phase.touching or phase.importance:
            of_a_part = touching_step if phase.touching else importance_step
            state, grads, batch_stats, metrics = of_a_part(setup, state, x, keys)
            state = _updated(setup, state, grads, batch_stats)
            return _next(setup, state, metrics)
        loss, grad, kl_map = _auxiliary_step(setup, state.params["auxiliary"], x, keys)
        if not phase.lavae:
            grads, metrics = Parts(None, None, grad), TrainMetrics(loss)
            state = _updated(setup, state, grads, state.batch_stats)
        else:
            locations, grads, batch_stats, metrics = _lavae_step(
                setup, state, x, keys, kl_map
            )
            state = _updated(setup, state, grads._replace(auxiliary=grad), batch_stats)
            for update in range(1, recipe.appearance_updates):
                state = _appearance_update(setup, state, update, x, locations)
            if phase.auxiliary:
                metrics = metrics._replace(loss=metrics.loss + loss)
        return _next(setup, state, metrics._replace(auxiliary_loss=loss))

    return train_step


def _next(setup: Setup, state: TrainState, metrics: TrainMetrics):
    """The state with which the next step begins, and the metrics of all devices."""
    metrics = per_object(_average(setup, metrics))
    return state._replace(step=state.step + 1), metrics
