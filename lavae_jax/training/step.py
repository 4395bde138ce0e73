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
from lavae_jax.training.optimizer import Optimizer, Parts, split
from lavae_jax.training.recipe import Phase, Recipe
from lavae_jax.training.schedules import Schedules
from lavae_jax.training.state import TrainState
from lavae_jax.types import Array, Locations, Variables, hard_locations


class TrainMetrics(NamedTuple):
    """Means over the batch; nats per image where not stated otherwise.

    What is about the target of h_loc (location_loss, moved, dropped, added) is 0 in
    steps that do not train h_loc.
    """

    loss: Array  # of everything that is trained
    elbo: Array
    log_px: Array
    kl_app: Array
    kl_loc: Array
    kl_n: Array
    location_loss: Array
    auxiliary_loss: Array
    objects: Array  # per image
    moved: Array  # share of the objects
    dropped: Array  # share of the objects
    added: Array  # share of the images
    tau: Array
    epsilon: Array


class _Parts(NamedTuple):
    model: LAVAE
    auxiliary: warmup.AuxiliaryVAE
    schedules: Schedules
    recipe: Recipe
    phase: Phase


def _image_keys(
    state: TrainState, update: int, num_images: int, axis_name: str | None
) -> Array:
    """One key per image, by its index in the global batch: [B].

    Draws are then the same however the batch is spread over devices, and new in every
    update of a step.
    """
    first = 0 if axis_name is None else lax.axis_index(axis_name) * num_images
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), update)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(
        first + jnp.arange(num_images)
    )


def _proposals(kl_map: Array, model: LAVAE, relaxed: bool) -> Locations:
    """Hard locations at the peaks of the KL map, [B, H, W]."""
    height, width = kl_map.shape[1:]
    centres, valid = warmup.kl_peaks(kl_map, model.max_objects)
    nearest = jnp.round(centres).astype(jnp.int32)
    row = jnp.clip(nearest[..., 0], 0, height - 1)
    column = jnp.clip(nearest[..., 1], 0, width - 1)
    site = jnp.where(valid, row * width + column, 0)
    z_loc = None
    if relaxed:
        z_loc = jax.nn.one_hot(site, model.num_sites) * valid[..., None]
    return hard_locations(site, valid)._replace(z_loc=z_loc)


def _locations(
    parts: _Parts, step: Array, h_loc: Array, n: Array, keys: Array, kl_map: Array
) -> Locations:
    """Draws the locations, or takes the proposals while the warm-up lasts."""
    recipe, model = parts.recipe, parts.model
    if parts.phase.propose:
        return _proposals(kl_map, model, relaxed=recipe.draws != "mode")
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
        centres, valid = warmup.kl_peaks(kl_map, model.max_objects)
    else:
        refined = refinement.refine(model, x, result, epsilon)
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
        if not parts.phase.location:
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


def _per_image(marked: Array) -> Array:
    return marked.sum(axis=1).astype(jnp.float32).mean()


def _per_object(metrics: TrainMetrics) -> TrainMetrics:
    """Counts per image to shares of the objects, once all devices' are averaged."""
    objects = jnp.where(metrics.objects > 0, metrics.objects, 1)
    return metrics._replace(
        moved=metrics.moved / objects, dropped=metrics.dropped / objects
    )


def _metrics(parts, step, loss, aux) -> TrainMetrics:
    """Of this device; `moved` and `dropped` are still per image."""
    result, error, refined, _ = aux
    zero = jnp.zeros(())
    moved, dropped, added = zero, zero, zero
    if refined is not None:
        changes = (refined.moved, refined.dropped, refined.added)
        moved, dropped, added = map(_per_image, changes)
    terms = [term.mean() for term in result.terms]
    return TrainMetrics(
        loss,
        result.terms.elbo.mean(),
        *terms,
        location_loss=error.mean(),
        auxiliary_loss=zero,
        objects=_per_image(result.locations.active),
        moved=moved,
        dropped=dropped,
        added=added,
        tau=jnp.asarray(parts.schedules.tau(step), jnp.float32),
        epsilon=jnp.asarray(parts.schedules.epsilon(step), jnp.float32),
    )


def _auxiliary_step(parts: _Parts, params, x, keys):
    """Loss, gradient and KL map of the auxiliary VAE, as far as the phase has them."""
    loss, grad = jnp.zeros(()), None
    if parts.phase.auxiliary:
        loss_and_grad = jax.value_and_grad(_auxiliary_loss)
        loss, grad = loss_and_grad(params, parts.auxiliary, x, keys)
    kl_map = jnp.zeros(x.shape[:3])
    if parts.phase.auxiliary or parts.phase.propose:
        kl_map = parts.auxiliary.apply({"params": params}, x, method="kl_map")
    return loss, grad, lax.stop_gradient(kl_map)


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
    parts = _Parts(model, auxiliary, schedules, recipe, phase)

    def average(tree):
        return tree if model.axis_name is None else lax.pmean(tree, model.axis_name)

    def update(state, grads, batch_stats):
        params, opt_state = optimizer.update(
            average(grads), state.opt_state, state.params, state.step
        )
        return state._replace(
            params=params, batch_stats=batch_stats, opt_state=opt_state
        )

    def appearance_update(state, index, x, locations):
        keys = _image_keys(state, index, x.shape[0], model.axis_name)
        rest = split(state.params).rest
        grad, batch_stats = jax.grad(_appearance_loss, has_aux=True)(
            rest, parts, state, x, keys, locations
        )
        return update(state, Parts(None, grad, None), batch_stats)

    def train_step(state, images):
        x = to_float(images)
        keys = _image_keys(state, 0, x.shape[0], model.axis_name)
        aux_loss, aux_grad, kl_map = _auxiliary_step(
            parts, state.params["auxiliary"], x, keys
        )
        grads, batch_stats = Parts(None, None, aux_grad), state.batch_stats
        metrics = TrainMetrics(*[jnp.zeros(())] * len(TrainMetrics._fields))
        if phase.lavae:
            (loss, aux), grad = jax.value_and_grad(_lavae_loss, has_aux=True)(
                state.params["lavae"], parts, batch_stats, state.step, x, keys, kl_map
            )
            metrics, batch_stats = _metrics(parts, state.step, loss, aux), aux[-1]
            grads = split({"lavae": grad, "auxiliary": aux_grad})
            grads = grads if phase.location else grads._replace(location=None)
        state = update(state, grads, batch_stats)
        for index in range(1, recipe.appearance_updates if phase.lavae else 1):
            locations = jax.tree.map(lax.stop_gradient, aux[0].locations)
            state = appearance_update(state, index, x, locations)
        metrics = metrics._replace(
            loss=metrics.loss + aux_loss, auxiliary_loss=aux_loss
        )
        return state._replace(step=state.step + 1), _per_object(average(metrics))

    return train_step
