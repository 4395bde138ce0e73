"""The train step: Appendix B's warm-up, then the ELBO of Eq. 6 and nothing else.

A run goes through the stages of `recipe.stage_at`:

1. `auxiliary`: the auxiliary VAE learns, for as long as its KL map needs to show one
   peak per object. Of LAVAE, only a background that is not black learns.
2. `guided`: LAVAE learns with its objects at these peaks, on which h_loc is regressed.
3. `apart`: as `elbo`, as long as sprites are blurred and a second one on an object
   pays: the exclusion radius is wider, superposed scenes do not overlap, and no further
   object is proposed. A run may have no such steps.
4. `elbo`: everything learns from the ELBO of K draws of n, z_loc and z_app. Some images
   may be superposed on others (`superposition`), and the ELBO weighs proposals of
   objects that these draws miss (`proposals`).
5. `tighten`: all but h_loc learns from a bound of several draws of z_app.

A step takes images x, [N, H, W, C]. In the paper, all of them teach all
networks. Here one in `location_every` can do that, and then h_app and f_sprite, which
take longer to learn, get further updates with minibatches of all images, at the objects
that h_loc finds. The metrics are those of the first update, or means over `tighten`'s.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from lavae_jax import warmup
from lavae_jax.images import to_float
from lavae_jax.latents import counts
from lavae_jax.model import LAVAE
from lavae_jax.objectives import leave_one_out, reconstruct
from lavae_jax.training import proposals
from lavae_jax.training.metrics import TrainMetrics, of_terms
from lavae_jax.training.optimizer import Parts, lavae_parts
from lavae_jax.training.recipe import Stage
from lavae_jax.training.setup import Setup
from lavae_jax.training.state import TrainState, restart_moments
from lavae_jax.training.superposition import without_priors
from lavae_jax.training.updates import (
    Stepped,
    appearance_update,
    appearance_updates,
    minibatch_updates,
)
from lavae_jax.types import Array, Locations, hard_locations, site_at


def auxiliary_step(setup: Setup, state: TrainState, x: Array) -> Stepped:
    """Trains the auxiliary VAE on its ELBO, and LAVAE's background if there is one."""
    keys, model = setup.keys(state, 0, x.shape[0]), setup.model
    grads, behind = Parts(), 0.0
    if model.background_net is not None:

        def misfit(params):
            bound = model.bind({**state.variables, "params": params})
            losses, behind = warmup.background_loss(bound, x, keys)
            return losses.mean(), behind

        grad, behind = jax.grad(misfit, has_aux=True)(state.params["lavae"])
        grads = Parts(rest=lavae_parts(grad).rest)

    def loss(params):
        log_px, kl = setup.auxiliary.apply({"params": params}, x, keys, behind)
        return (kl - log_px).mean()

    value, grad = jax.value_and_grad(loss)(state.params["auxiliary"])
    grads = grads._replace(auxiliary=grad)
    state = setup.update(state, grads, state.batch_stats)
    return state, TrainMetrics(value, auxiliary_loss=value)


def guided_step(setup: Setup, state: TrainState, x: Array) -> Stepped:
    """Trains LAVAE with its objects at the peaks of the auxiliary VAE's KL map.

    h_loc is regressed on the map, or on bumps at its peaks.
    """
    model, recipe, size = setup.model, setup.recipe, x.shape[1:3]
    keys = setup.keys(state, 0, x.shape[0])
    auxiliary = {"params": state.params["auxiliary"]}
    behind = model.bind(state.variables).inferred_background(x)
    behind = 0.0 if behind is None else behind
    kl_map = setup.auxiliary.apply(auxiliary, x, behind, method="kl_map")
    centres, valid = warmup.kl_peaks(kl_map, model.max_objects, recipe.object_size)
    nearest = site_at(jnp.round(centres).astype(jnp.int32), size)
    locations, n = hard_locations(nearest, valid), valid.sum(axis=1)
    target = kl_map
    if recipe.target == "bumps":
        shape = recipe.bump_height, recipe.bump_sigma
        target = warmup.bumps(centres, valid, *shape, size)

    def loss(params):
        def forward(model):
            h_loc = model.location_logits(x, train=True)
            noise = setup.noise(state)
            terms = reconstruct(model, x, locations, n, keys, noise, train=True)
            error = (h_loc / model.gamma - target) ** 2
            return terms, error.sum(axis=(1, 2)).mean()

        (terms, error), batch_stats = setup.apply(state, params, forward)
        loss = recipe.location_weight * error - terms.elbo.mean()
        return loss, (terms, error, batch_stats)

    (value, aux), grad = jax.value_and_grad(loss, has_aux=True)(state.params["lavae"])
    terms, error, batch_stats = aux
    state = setup.update(state, lavae_parts(grad), batch_stats)
    return state, of_terms(TrainMetrics(value, location_loss=error), terms, n)


def elbo_step(setup: Setup, state: TrainState, x: Array) -> Stepped:
    """Trains everything on the ELBO of K draws from q(n, z | x)."""
    recipe, noise = setup.recipe, setup.noise(state)
    keys = setup.keys(state, 0, x.shape[0])
    scenes = setup.superposed(state, x, recipe.superpose, recipe.touching, keys)

    def forward(model):
        h_loc = model.location_logits(scenes.x, train=True)
        locations, log_q, key_app = _draw(setup, model, state, h_loc, keys)
        n = locations.active.sum(axis=1)
        terms = reconstruct(model, scenes.x, locations, n, key_app, noise, train=True)
        terms = without_priors(model, terms, locations, scenes.chosen)
        elbo = terms.elbo.reshape(log_q.shape)
        advantage = leave_one_out(elbo, recipe.advantage_limit)
        objective = (elbo + advantage * log_q).mean()
        if recipe.wake_weight and (recipe.superpose or recipe.wake_one_more):
            h_single, one_more = model.location_logits(x), recipe.wake_one_more
            proposed = proposals.propose(model, scenes, h_single, noise, one_more)
            key, temperature = key_app[:: recipe.num_draws], recipe.count_temperature
            objective += recipe.wake_weight * proposals.wake(
                model, scenes, proposed, h_loc, elbo, key, noise, temperature
            )
        return objective, (terms, n)

    def loss(params):
        (objective, aux), batch_stats = setup.apply(state, params, forward)
        return -objective, (*aux, batch_stats)

    grad, aux = jax.grad(loss, has_aux=True)(state.params["lavae"])
    terms, n, batch_stats = aux
    state = setup.update(state, lavae_parts(grad), batch_stats)
    return state, of_terms(TrainMetrics(-terms.elbo.mean()), terms, n)


def _draw(
    setup: Setup, model: LAVAE, state: TrainState, h_loc: Array, keys: Array
) -> tuple[Locations, Array, Array]:
    """Draws n and z_loc K times per image; the draws of an image are in a row.

    Returns:
        Locations [B · K, ...]; the log-probability, [B, K], by which the score function
        teaches h_loc: of n, and of z_loc where no gradient goes through it; and keys
        [B · K] for z_app.
    """
    recipe = setup.recipe
    h_loc = jnp.repeat(h_loc, recipe.num_draws, axis=0)
    keys = jax.vmap(lambda key: jax.random.split(key, recipe.num_draws))(keys)
    keys = keys.reshape(-1)
    key_n, key_loc, key_app = jax.vmap(lambda key: jax.random.split(key, 3))(keys).T
    n, log_q = model.count(h_loc), jnp.zeros(keys.shape, h_loc.dtype)
    if temperature := recipe.count_temperature:
        limits = model.count_threshold, model.max_objects
        radius = model.exclusion_radius
        n, log_q = counts.draw_n(h_loc, *limits, temperature, key_n, radius)
    if recipe.draws == "score":
        locations = model.locations(h_loc, n, key_loc)
        log_q += locations.log_q.sum(axis=1)
    else:
        tau, hard = setup.schedules.tau(state.step), recipe.draws == "straight_through"
        locations = model.locations(h_loc, n, key_loc, tau=tau, straight_through=hard)
    return locations, log_q.reshape(-1, recipe.num_draws), key_app


def tighten_step(setup: Setup, state: TrainState, x: Array) -> Stepped:
    """Trains all but h_loc on a bound of several draws of z_app, at sites from q.

    Each minibatch makes one update.
    """
    recipe, model = setup.recipe, setup.model.bind(state.variables)

    def sampled(x, keys):
        h_loc = model.location_logits(x)
        return x, model.locations(h_loc, model.count(h_loc), keys)

    update = partial(
        appearance_update,
        setup,
        num_draws=recipe.tighten_draws,
        elbo_share=recipe.tighten_elbo,
        with_prior=True,
    )
    return minibatch_updates(setup, state, x, sampled, update, recipe.minibatches)


_STEPS = {
    "auxiliary": auxiliary_step,
    "guided": guided_step,
    "apart": elbo_step,
    "elbo": elbo_step,
    "tighten": tighten_step,
}


def make_train_step(
    setup: Setup, stage: Stage
) -> Callable[[TrainState, Array], Stepped]:
    """Makes the train step of a stage.

    Returns:
        From a state and images (uint8 or float, [B, H, W, C], this device's
        share of the batch) to the next state and metrics, the same on every device.
    """
    recipe = setup.recipe
    if stage == "apart":
        model = setup.model.clone(exclusion_radius=recipe.apart_radius)
        recipe = recipe._replace(overlap=0, wake_one_more=False)
        setup = setup._replace(model=model, recipe=recipe)
    steps_before = {
        "guided": recipe.auxiliary_steps,
        "apart": recipe.warmup_steps,
        "elbo": recipe.warmup_steps,
        "tighten": recipe.tighten_after,
    }

    def train_step(state, images):
        if stage in steps_before:
            state = restart_moments(state, setup.optimizer, steps_before[stage])
        x = to_float(images, setup.model.is_binary)
        location_images = x if stage == "tighten" else x[:: recipe.location_every]
        state, metrics = _STEPS[stage](setup, state, location_images)
        if stage in ("guided", "apart", "elbo"):
            state = appearance_updates(setup, state, x)
        return state._replace(step=state.step + 1), setup.average(metrics)

    return train_step
