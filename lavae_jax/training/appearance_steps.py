"""Steps that train h_app and f_sprite alone, at locations that are given.

Arguments and results are those of the steps in `step`.
"""

import jax
from jax import lax

from lavae_jax.objectives import importance_bound, reconstruct
from lavae_jax.training.metrics import TrainMetrics, of_terms
from lavae_jax.training.optimizer import Parts, split
from lavae_jax.training.setup import Setup
from lavae_jax.training.state import TrainState
from lavae_jax.training.superposition import objects_of_both
from lavae_jax.types import Array, Locations


def appearance_step(
    setup: Setup, state: TrainState, x: Array, keys: Array
) -> tuple[TrainState, TrainMetrics]:
    """Trains h_app and f_sprite on the ELBO, at the most likely sites.

    f_sprite learns an object faster when it is always painted from the same site than
    when it is painted from all sites that q gives it; the ELBO then makes q narrower.
    """
    h_loc = setup.model.bind(state.variables).location_logits(x)
    x, locations = appearance_scenes(setup, x, h_loc, keys)
    state, metrics = appearance_update(setup, state, x, locations, keys)
    return appearance_updates(setup, state, x, locations), metrics


def tighten_step(
    setup: Setup, state: TrainState, x: Array, keys: Array
) -> tuple[TrainState, TrainMetrics]:
    """Trains h_app and f_sprite on a bound of several draws of z_app."""
    key_loc, key_app = jax.vmap(jax.random.split)(keys).T
    model, recipe = setup.model.bind(state.variables), setup.recipe
    h_loc = model.location_logits(x)
    locations = model.locations(h_loc, model.count(h_loc), key_loc)
    num_draws, elbo_share = recipe.tighten_draws, recipe.tighten_elbo
    return appearance_update(setup, state, x, locations, key_app, num_draws, elbo_share)


def appearance_scenes(
    setup: Setup, x: Array, h_loc: Array, keys: Array
) -> tuple[Array, Locations]:
    """Superposes some images, and finds the likeliest sites of the objects in each.

    Args:
        setup: the parts of the step.
        x: binary images, [B, H, W, C].
        h_loc: their location logits, [B, H, W].
        keys: of an update, [B].

    Returns:
        Images for h_app and f_sprite to learn, [B, H, W, C], and locations [B, ...].
    """
    model, share = setup.model, setup.recipe.superpose_appearance
    if not share:
        return x, model.locations(h_loc, model.count(h_loc), keys=None)
    scenes = setup.superposed(x, share, True, keys)
    return scenes.x, objects_of_both(model, scenes, h_loc)


def appearance_updates(
    setup: Setup, state: TrainState, x: Array, locations: Locations
) -> TrainState:
    """Makes further updates of h_app and f_sprite, with new draws of z_app each.

    The images x are [B, H, W, C], and their locations [B, ...].
    """

    def update(index, state):
        keys = setup.keys(state, index + 1, x.shape[0])
        return appearance_update(setup, state, x, locations, keys)[0]

    return lax.fori_loop(0, setup.recipe.appearance_updates, update, state)


def appearance_update(
    setup: Setup,
    state: TrainState,
    x: Array,
    locations: Locations,
    keys: Array,
    num_draws: int = 1,
    elbo_share: float = 1.0,
) -> tuple[TrainState, TrainMetrics]:
    """Makes one update of h_app and f_sprite, on x [B, H, W, C] with keys [B].

    The objective is elbo_share · ELBO + (1 − elbo_share) · log 1/K Σ_k w_k (Burda et
    al., "Importance Weighted Autoencoders", 2016) over K = `num_draws` draws of z_app
    at the locations, [B, ...]. The ELBO's share keeps q(z_app) from drawing so widely
    that single draws are poor (Rainforth et al., "Tighter Variational Bounds are Not
    Necessarily Better", 2018).
    """
    n, epsilon = locations.active.sum(axis=1), setup.epsilon(state)

    def forward(model):
        if num_draws == 1:
            terms = reconstruct(model, x, locations, n, keys, epsilon, train=True)
            return terms, terms.elbo.mean()
        return importance_bound(model, x, locations, n, keys, num_draws, epsilon)

    def loss(rest):
        params = {**state.params["lavae"], **rest}
        (terms, bound), batch_stats = setup.apply(state, params, forward)
        objective = elbo_share * terms.elbo.mean() + (1 - elbo_share) * bound
        return -objective, (terms, bound, batch_stats)

    rest = split(state.params).rest
    (value, aux), grad = jax.value_and_grad(loss, has_aux=True)(rest)
    terms, bound, batch_stats = aux
    state = setup.update(state, Parts(rest=grad), batch_stats)
    metrics = TrainMetrics(value, bound=bound if num_draws > 1 else None)
    return state, of_terms(metrics, terms, n)
