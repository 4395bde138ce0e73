"""Updates of h_app and f_sprite with minibatches, which the paper does not have.

Appearances take longer to learn than locations, so these networks get further updates
in a step, and the last steps of a run tighten their bound.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax.objectives import importance_bound, reconstruct
from lavae_jax.training.metrics import TrainMetrics, of_terms
from lavae_jax.training.optimizer import Parts, lavae_parts
from lavae_jax.training.proposals import objects_of_both
from lavae_jax.training.setup import Setup
from lavae_jax.training.state import TrainState
from lavae_jax.types import Array, Locations

Stepped = tuple[TrainState, TrainMetrics]
"""The state after a step or an update, and what it reports."""


def appearance_updates(setup: Setup, state: TrainState, x: Array) -> TrainState:
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
    return minibatch_updates(setup, state, x, superposed, update, number)[0]


def minibatch_updates(
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
    a row; see experiments/TRIALS.md, "Updates of an image that lie apart". The metrics
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
    with_prior: bool = False,
) -> Stepped:
    """Makes one update of h_app, f_sprite and maybe the priors, on x [B, H, W, C].

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
    prior = grads.prior if with_prior else None
    state = setup.update(state, Parts(rest=grads.rest, prior=prior), batch_stats)
    metrics = TrainMetrics(value, bound=bound if num_draws > 1 else None)
    return state, of_terms(metrics, terms, n)
