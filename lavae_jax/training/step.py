"""The train step: Appendix B's warm-up, then the ELBO of Eq. 6 and nothing else.

A run goes through the stages of `recipe.stage_at`, each a function of this file:

1. `auxiliary`: the auxiliary VAE learns alone, for as long as its KL map needs to show
   one peak per object.
2. `guided`: LAVAE learns with its objects at these peaks, and h_loc is regressed on
   them.
3. `elbo`: everything learns from the ELBO of K draws of n, z_loc and z_app. Some images
   may be superposed on others (`superposition`). Where `location_every` is above 1,
   `appearance` steps in between train h_app and f_sprite alone.
4. `tighten`: h_app and f_sprite learn from a bound of several draws of z_app.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import warmup
from lavae_jax.images import to_float
from lavae_jax.latents import counts
from lavae_jax.latents.locations import draw_locations
from lavae_jax.model import LAVAE
from lavae_jax.objectives import ElboTerms, importance_bound, reconstruct
from lavae_jax.training.keys import image_keys
from lavae_jax.training.metrics import TrainMetrics, of_terms
from lavae_jax.training.optimizer import Optimizer, Parts, split
from lavae_jax.training.recipe import Recipe, Stage
from lavae_jax.training.schedules import Schedules
from lavae_jax.training.state import TrainState, restart_moments
from lavae_jax.training.superposition import objects_of_both, superpose, wake
from lavae_jax.types import Array, Locations, Variables, hard_locations


class Setup(NamedTuple):
    """What a train step is made of, see `make_train_step`."""

    model: LAVAE
    auxiliary: warmup.AuxiliaryVAE
    optimizer: Optimizer
    schedules: Schedules
    recipe: Recipe


# Warm-up, Appendix B.


def auxiliary_step(setup: Setup, state: TrainState, x: Array, keys: Array):
    """Trains the auxiliary VAE."""

    def loss(params):
        log_px, kl = setup.auxiliary.apply({"params": params}, x, keys)
        return (kl - log_px).mean()

    value, grad = jax.value_and_grad(loss)(state.params["auxiliary"])
    state = _update(setup, state, Parts(auxiliary=grad), state.batch_stats)
    return state, TrainMetrics(value, auxiliary_loss=value)


def guided_step(setup: Setup, state: TrainState, x: Array, keys: Array):
    """Trains LAVAE with its objects at the peaks of the auxiliary VAE's KL map."""
    recipe, size = setup.recipe, x.shape[1:3]
    kl_map = setup.auxiliary.apply(
        {"params": state.params["auxiliary"]}, x, method="kl_map"
    )
    centres, valid = warmup.kl_peaks(
        kl_map, setup.model.max_objects, recipe.object_size
    )
    locations = _at(centres, valid, size)
    target = kl_map
    if recipe.target == "bumps":
        target = warmup.bumps(
            centres, valid, recipe.bump_height, recipe.bump_sigma, size
        )

    def loss(params):
        def forward(model):
            h_loc = model.location_logits(x, train=True)
            n = valid.sum(axis=1)
            result = reconstruct(
                model, x, locations, n, keys, _epsilon(setup, state), train=True
            )
            error = (h_loc / model.gamma - target) ** 2
            return result.terms, error.sum(axis=(1, 2)).mean()

        (terms, error), batch_stats = _apply(setup, state, params, forward)
        loss = recipe.location_weight * error - terms.elbo.mean()
        return loss, (terms, error, batch_stats)

    (value, aux), grad = jax.value_and_grad(loss, has_aux=True)(state.params["lavae"])
    terms, error, batch_stats = aux
    state = _update(setup, state, _lavae_grads(grad), batch_stats)
    metrics = of_terms(TrainMetrics(value), terms, valid.sum(axis=1))
    state = _appearance_updates(setup, state, x, locations)
    return state, metrics._replace(location_loss=error)


def _at(centres: Array, valid: Array, size: tuple[int, int]) -> Locations:
    """Hard locations at the pixels nearest to centres [B, M, 2]."""
    height, width = size
    nearest = jnp.round(centres).astype(jnp.int32)
    row = jnp.clip(nearest[..., 0], 0, height - 1)
    column = jnp.clip(nearest[..., 1], 0, width - 1)
    return hard_locations(row * width + column, valid)


# The ELBO, Eq. 6.


def elbo_step(setup: Setup, state: TrainState, x: Array, keys: Array):
    """Trains everything on the ELBO of K draws from q(n, z | x) of each image."""
    recipe, single, epsilon = setup.recipe, x, _epsilon(setup, state)
    chosen, keys_shift = _chosen(setup, keys)
    if recipe.superpose:
        scenes = superpose(
            x, chosen, keys_shift, setup.model.axis_name, recipe.touching
        )
        x = scenes.x

    def loss(params):
        def forward(model):
            h_loc = model.location_logits(x, train=True)
            locations, log_q, key_app = _draw(setup, model, state, h_loc, keys)
            n = locations.active.sum(axis=1)
            drawn = reconstruct(model, x, locations, n, key_app, epsilon, train=True)
            terms = _without_prior_of_n(drawn.terms, chosen)
            elbo = terms.elbo.reshape(log_q.shape)
            advantage = leave_one_out(elbo, recipe.advantage_limit)
            objective = (elbo + advantage * log_q).mean()
            h_single = model.location_logits(single) if recipe.superpose else h_loc
            if recipe.superpose and recipe.wake_weight:
                both = objects_of_both(model, scenes, h_single, h_loc)
                key_both = key_app[:: recipe.num_draws]
                objective += recipe.wake_weight * wake(
                    *(model, scenes, both, h_loc, elbo, key_both, epsilon),
                    recipe.count_temperature,
                )
            return -objective, (terms, n, lax.stop_gradient(h_single))

        (value, aux), batch_stats = _apply(setup, state, params, forward)
        return value, (*aux, batch_stats)

    grad, aux = jax.grad(loss, has_aux=True)(state.params["lavae"])
    terms, n, h_single, batch_stats = aux
    state = _update(setup, state, _lavae_grads(grad), batch_stats)
    # What superposed scenes teach is where objects are, not how they look on their own.
    locations = _locations(setup, h_single, keys=None)
    state = _appearance_updates(setup, state, single, locations)
    return state, of_terms(TrainMetrics(-terms.elbo.mean()), terms, n)


def _chosen(setup: Setup, keys: Array) -> tuple[Array, Array]:
    """The images that are to be superposed, [B] bool, and a key for each, [B]."""
    # Not a key of the K draws: `split` gives what `fold_in` gives for 0 to K - 1.
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, setup.recipe.num_draws)
    key_chosen, key_shift = jax.vmap(jax.random.split)(keys).T
    return jax.vmap(jax.random.uniform)(key_chosen) < setup.recipe.superpose, key_shift


def _draw(
    setup: Setup, model: LAVAE, state: TrainState, h_loc: Array, keys: Array
) -> tuple[Locations, Array, Array]:
    """K draws of n and z_loc per image, those of an image in a row.

    Returns:
        Locations [B · K, ...]; the log-probability, [B, K], by which the score function
        teaches h_loc: of n, and of z_loc where no gradient goes through it; and keys
        [B · K] for z_app.
    """
    recipe, relaxed = setup.recipe, setup.recipe.draws != "score"
    h_loc = jnp.repeat(h_loc, recipe.num_draws, axis=0)
    keys = jax.vmap(lambda key: jax.random.split(key, recipe.num_draws))(keys)
    key_n, key_loc, key_app = jax.vmap(lambda key: jax.random.split(key, 3))(
        keys.reshape(-1)
    ).T
    n, log_q = counts.draw_n(
        h_loc,
        model.count_threshold,
        model.max_objects,
        recipe.count_temperature,
        key_n,
        model.exclusion_radius,
    )
    locations = draw_locations(
        h_loc,
        n,
        model.max_objects,
        keys=key_loc,
        tau=setup.schedules.tau(state.step) if relaxed else None,
        straight_through=recipe.draws == "straight_through",
        exclusion_radius=model.exclusion_radius,
        capacity=model.capacity(h_loc.shape[0]),
    )
    if not relaxed:
        log_q += locations.log_q.sum(axis=1)
    return locations, log_q.reshape(-1, recipe.num_draws), key_app


def leave_one_out(elbo: Array, limit: float) -> Array:
    """The score function's weights: each draw's ELBO less the mean of the others.

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


def _without_prior_of_n(terms: ElboTerms, chosen: Array) -> ElboTerms:
    """Leaves chosen images out of p(n), as superposed scenes have more objects.

    This holds for all of them: the more objects a scene has, the more seldom it is
    superposed, and p(n) would learn from what is left.
    """
    chosen = jnp.repeat(chosen, terms.kl_n.shape[0] // chosen.shape[0])
    return terms._replace(kl_n=jnp.where(chosen, 0, terms.kl_n))


# h_app and f_sprite, at locations that are given.


def appearance_step(setup: Setup, state: TrainState, x: Array, keys: Array):
    """Trains h_app and f_sprite on the ELBO, at the most likely sites."""
    h_loc = setup.model.bind(state.variables).location_logits(x)
    locations = _locations(setup, h_loc, keys=None)
    state, metrics = _appearance_update(setup, state, x, locations, keys)
    return _appearance_updates(setup, state, x, locations), metrics


def tighten_step(setup: Setup, state: TrainState, x: Array, keys: Array):
    """Trains h_app and f_sprite on a bound of several draws of z_app."""
    recipe = setup.recipe
    key_loc, key_app = jax.vmap(jax.random.split)(keys).T
    h_loc = setup.model.bind(state.variables).location_logits(x)
    locations = _locations(setup, h_loc, key_loc)
    return _appearance_update(
        *(setup, state, x, locations, key_app),
        num_draws=recipe.tighten_draws,
        elbo_share=recipe.tighten_elbo,
    )


def _locations(setup: Setup, h_loc: Array, keys: Array | None) -> Locations:
    """An exact draw of z_loc for each image, with n from f_count.

    Without keys, the most likely sites. An object whose sprite is always painted from
    the same site is learned faster than one that is seen at all sites that q gives it,
    and the ELBO then makes q narrower.
    """
    return setup.model.locations(h_loc, setup.model.count(h_loc), keys)


def _appearance_updates(
    setup: Setup, state: TrainState, x: Array, locations: Locations
) -> TrainState:
    """Further updates of h_app and f_sprite, with new draws of z_app each."""

    def update(index, state):
        keys = _keys(setup, state, index + 1, x.shape[0])
        return _appearance_update(setup, state, x, locations, keys)[0]

    return lax.fori_loop(0, setup.recipe.appearance_updates, update, state)


def _appearance_update(
    setup: Setup,
    state: TrainState,
    x: Array,
    locations: Locations,
    keys: Array,
    num_draws: int = 1,
    elbo_share: float = 1.0,
):
    """One update of h_app and f_sprite, at given locations.

    The objective is elbo_share · ELBO + (1 − elbo_share) · log 1/K Σ_k w_k (Burda et
    al., "Importance Weighted Autoencoders", 2016) over K draws of z_app. The ELBO's
    share keeps q(z_app) from drawing so widely that single draws are poor (Rainforth et
    al., "Tighter Variational Bounds are Not Necessarily Better", 2018).
    """

    def loss(rest):
        params = {**state.params["lavae"], **rest}
        n, epsilon = locations.active.sum(axis=1), _epsilon(setup, state)

        def forward(model):
            if num_draws == 1:
                terms = reconstruct(
                    model, x, locations, n, keys, epsilon, train=True
                ).terms
                return terms, terms.elbo.mean()
            return importance_bound(model, x, locations, n, keys, num_draws, epsilon)

        (terms, bound), batch_stats = _apply(setup, state, params, forward)
        objective = elbo_share * terms.elbo.mean() + (1 - elbo_share) * bound
        return -objective, (terms, bound, batch_stats)

    rest = split(state.params).rest
    (value, aux), grad = jax.value_and_grad(loss, has_aux=True)(rest)
    terms, bound, batch_stats = aux
    state = _update(setup, state, Parts(rest=grad), batch_stats)
    metrics = TrainMetrics(value, bound=bound if num_draws > 1 else None)
    return state, of_terms(metrics, terms, locations.active.sum(axis=1))


# What all stages share.


def _epsilon(setup: Setup, state: TrainState) -> Array:
    return jnp.asarray(setup.schedules.epsilon(state.step), jnp.float32)


def _keys(setup: Setup, state: TrainState, update: Array | int, num_images: int):
    """A key per image for an update of a step, [B]."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), update)
    return image_keys(key, num_images, setup.model.axis_name)


def _apply(setup: Setup, state: TrainState, params: Variables, forward: Callable):
    """What a method of LAVAE gives, and the batch statistics after it."""
    result, updates = nn.apply(forward, setup.model, mutable=["batch_stats"])(
        {"params": params, "batch_stats": state.batch_stats}
    )
    return result, {**state.batch_stats, **updates.get("batch_stats", {})}


def _lavae_grads(grad: Variables) -> Parts:
    return split({"lavae": grad, "auxiliary": None})


def _average(setup: Setup, tree):
    """The mean over devices."""
    axis_name = setup.model.axis_name
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def _update(setup: Setup, state: TrainState, grads: Parts, batch_stats) -> TrainState:
    """The state after one update of the optimiser."""
    params, opt_state = setup.optimizer.update(
        _average(setup, grads), state.opt_state, state.params, state.step
    )
    return state._replace(params=params, batch_stats=batch_stats, opt_state=opt_state)


def _begin(recipe: Recipe, stage: Stage) -> int:
    """The number of steps after which the objective of a stage is first trained on."""
    return recipe.tighten_after if stage == "tighten" else recipe.warmup_steps


_STEPS = {
    "auxiliary": auxiliary_step,
    "guided": guided_step,
    "elbo": elbo_step,
    "appearance": appearance_step,
    "tighten": tighten_step,
}


def make_train_step(
    model: LAVAE,
    auxiliary: warmup.AuxiliaryVAE,
    optimizer: Optimizer,
    schedules: Schedules,
    recipe: Recipe,
    stage: Stage,
) -> Callable[[TrainState, Array], tuple[TrainState, TrainMetrics]]:
    """Makes the train step of a stage.

    Args:
        model: LAVAE; its `axis_name` is the mapped axis of devices, or None.
        auxiliary: the warm-up's VAE.
        optimizer: for the parameters of both.
        schedules: what changes with the step.
        recipe: the rest of how it is trained.
        stage: what the step does.

    Returns:
        From a state and images (uint8 or binary float, [B, H, W, C], this device's
        share of the batch) to the next state and metrics, the same on every device.
    """
    setup = Setup(model, auxiliary, optimizer, schedules, recipe)

    def train_step(state, images):
        x = to_float(images)
        keys = _keys(setup, state, 0, x.shape[0])
        if stage in ("elbo", "appearance", "tighten"):
            state = restart_moments(state, optimizer, _begin(recipe, stage))
        state, metrics = _STEPS[stage](setup, state, x, keys)
        return state._replace(step=state.step + 1), _average(setup, metrics)

    return train_step
