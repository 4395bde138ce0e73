"""The train step: Appendix B's warm-up, then the ELBO of Eq. 6 and nothing else.

A run goes through the stages of `recipe.stage_at`:

1. `auxiliary`: the auxiliary VAE learns alone, for as long as its KL map needs to show
   one peak per object.
2. `guided`: LAVAE learns with its objects at these peaks, on which h_loc is regressed.
3. `elbo`: everything learns from the ELBO of K draws of n, z_loc and z_app. Some images
   may be superposed on others (`superposition`).
4. `tighten`: all but h_loc learns from a bound of several draws of z_app.

A step takes images x, [N, H, W, C]. In the paper, all of them teach all
networks. Here one in `location_every` can do that, and then h_app and f_sprite, which
take longer to learn, get further updates with minibatches of all images, at the objects
that h_loc finds. The metrics are those of the first update, or means over `tighten`'s.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import warmup
from lavae_jax.images import to_float
from lavae_jax.latents import counts
from lavae_jax.model import LAVAE
from lavae_jax.objectives import importance_bound, leave_one_out, reconstruct
from lavae_jax.training.metrics import TrainMetrics, of_terms
from lavae_jax.training.optimizer import Optimizer, Parts, lavae_parts
from lavae_jax.training.recipe import Recipe, Stage
from lavae_jax.training.schedules import Schedules
from lavae_jax.training.setup import Setup
from lavae_jax.training.state import TrainState, restart_moments
from lavae_jax.training.superposition import objects_of_both, wake, without_prior_of_n
from lavae_jax.types import Array, Locations, hard_locations, site_at
from lavae_jax.warmup import AuxiliaryVAE

Stepped = tuple[TrainState, TrainMetrics]
"""The state after a step or an update, and what it reports."""


def auxiliary_step(setup: Setup, state: TrainState, x: Array) -> Stepped:
    """Trains the auxiliary VAE on its ELBO."""
    keys = setup.keys(state, 0, x.shape[0])

    def loss(params):
        log_px, kl = setup.auxiliary.apply({"params": params}, x, keys)
        return (kl - log_px).mean()

    value, grad = jax.value_and_grad(loss)(state.params["auxiliary"])
    state = setup.update(state, Parts(auxiliary=grad), state.batch_stats)
    return state, TrainMetrics(value, auxiliary_loss=value)


def guided_step(setup: Setup, state: TrainState, x: Array) -> Stepped:
    """Trains LAVAE with its objects at the peaks of the auxiliary VAE's KL map.

    h_loc is regressed on the map, or on bumps at its peaks.
    """
    model, recipe, size = setup.model, setup.recipe, x.shape[1:3]
    keys = setup.keys(state, 0, x.shape[0])
    auxiliary = {"params": state.params["auxiliary"]}
    kl_map = setup.auxiliary.apply(auxiliary, x, method="kl_map")
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
        terms = without_prior_of_n(terms, scenes.chosen)
        elbo = terms.elbo.reshape(log_q.shape)
        advantage = leave_one_out(elbo, recipe.advantage_limit)
        objective = (elbo + advantage * log_q).mean()
        if recipe.superpose and recipe.wake_weight:
            both = objects_of_both(model, scenes, model.location_logits(x))
            key_both = key_app[:: recipe.num_draws]
            temperature = recipe.count_temperature
            objective += recipe.wake_weight * wake(
                model, scenes, both, h_loc, elbo, key_both, noise, temperature
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
        with_prior_n=True,
    )
    return _minibatch_updates(setup, state, x, sampled, update, recipe.minibatches)


def _appearance_updates(setup: Setup, state: TrainState, x: Array) -> TrainState:
    """Makes the further updates of h_app and f_sprite, on objects that h_loc finds.

    Some images are superposed. f_sprite learns an object faster when it is always
    painted from the same site, the likeliest, than when it is painted from all sites
    that q gives it; the ELBO then makes q narrower.
    """
    recipe, model = setup.recipe, setup.model.bind(state.variables)
    if not recipe.appearance_updates:
        return state

    def superposed(x, keys):
        h_loc = model.location_logits(x)
        scenes = setup.superposed(state, x, recipe.superpose_appearance, True, keys)
        return scenes.x, objects_of_both(model, scenes, h_loc)

    update, number = partial(appearance_update, setup), recipe.appearance_updates
    return _minibatch_updates(setup, state, x, superposed, update, number)[0]


def _minibatch_updates(
    setup: Setup,
    state: TrainState,
    x: Array,
    scenes_of: Callable[[Array, Array], tuple[Array, Locations]],
    update: Callable[..., Stepped],
    num_updates: int,
) -> Stepped:
    """Makes updates with the P minibatches of images [N, H, W, C] in turn.

    `scenes_of` makes scenes and their objects once, from each minibatch and keys, both
    [N / P, ...]. As the updates of an image lie apart, they teach more than updates in
    a row; see experiments/RESULTS.md, "Updates of an image that lie apart". The metrics
    are means over the updates.
    """
    num_minibatches = setup.recipe.minibatches
    # Images are split alike on any number of devices.
    x = x.reshape(-1, num_minibatches, *x.shape[1:]).swapaxes(0, 1)

    def keys(number):
        return setup.keys(state, 1 + number, x.shape[1])  # 0 is the update of h_loc

    scenes = lax.map(
        lambda numbered: scenes_of(numbered[1], keys(numbered[0])),
        (jnp.arange(num_minibatches), x),
    )

    def one_update(state, number):
        minibatch = jax.tree.map(lambda a: a[number % num_minibatches], scenes)
        return update(state, *minibatch, keys=keys(num_minibatches + number))

    state, metrics = lax.scan(one_update, state, jnp.arange(num_updates))
    return state, jax.tree.map(lambda values: values.mean(axis=0), metrics)


def appearance_update(
    setup: Setup,
    state: TrainState,
    x: Array,
    locations: Locations,
    keys: Array,
    num_draws: int = 1,
    elbo_share: float = 1.0,
    with_prior_n: bool = False,
) -> Stepped:
    """Makes one update of h_app, f_sprite and maybe p(n), on x [B, H, W, C].

    The objective is elbo_share · ELBO + (1 − elbo_share) · log 1/K Σ_k w_k (Burda et
    al., "Importance Weighted Autoencoders", 2016) over K = `num_draws` draws of z_app,
    with keys [B], at the locations, [B, ...]. The ELBO's share keeps q(z_app) from
    drawing so widely that single draws are poor (Rainforth et al., "Tighter Variational
    Bounds are Not Necessarily Better", 2018).
    """
    n, noise = locations.active.sum(axis=1), setup.noise(state)

    def forward(model):
        if num_draws == 1:
            terms = reconstruct(model, x, locations, n, keys, noise, train=True)
            return terms, terms.elbo.mean()
        return importance_bound(model, x, locations, n, keys, num_draws, noise)

    def loss(params):
        (terms, bound), batch_stats = setup.apply(state, params, forward)
        objective = elbo_share * terms.elbo.mean() + (1 - elbo_share) * bound
        return -objective, (terms, bound, batch_stats)

    (value, aux), grad = jax.value_and_grad(loss, has_aux=True)(state.params["lavae"])
    terms, bound, batch_stats = aux
    grads = lavae_parts(grad)
    prior_n = grads.prior_n if with_prior_n else None
    state = setup.update(state, Parts(rest=grads.rest, prior_n=prior_n), batch_stats)
    metrics = TrainMetrics(value, bound=bound if num_draws > 1 else None)
    return state, of_terms(metrics, terms, n)


_STEPS = {
    "auxiliary": auxiliary_step,
    "guided": guided_step,
    "elbo": elbo_step,
    "tighten": tighten_step,
}


def make_train_step(
    model: LAVAE,
    auxiliary: AuxiliaryVAE,
    optimizer: Optimizer,
    schedules: Schedules,
    recipe: Recipe,
    stage: Stage,
) -> Callable[[TrainState, Array], Stepped]:
    """Makes the train step of a stage.

    The other arguments are the parts of a `Setup`.

    Returns:
        From a state and images (uint8 or float, [B, H, W, C], this device's
        share of the batch) to the next state and metrics, the same on every device.
    """
    setup = Setup(model, auxiliary, optimizer, schedules, recipe)
    steps_before = {"elbo": recipe.warmup_steps, "tighten": recipe.tighten_after}

    def train_step(state, images):
        if stage in steps_before:
            state = restart_moments(state, optimizer, steps_before[stage])
        x = to_float(images, model.is_binary)
        location_images = x if stage == "tighten" else x[:: recipe.location_every]
        state, metrics = _STEPS[stage](setup, state, location_images)
        if stage in ("guided", "elbo"):
            state = _appearance_updates(setup, state, x)
        return state._replace(step=state.step + 1), setup.average(metrics)

    return train_step
