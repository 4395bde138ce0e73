"""The last steps of a run, on the importance-weighted bound."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from lavae_jax import objectives
from lavae_jax.latents import appearance
from lavae_jax.latents.locations import draw_locations
from lavae_jax.training import importance_step, locating, optimizer, state
from lavae_jax.training.optimizer import Parts
from lavae_jax.types import hard_locations
from lavae_jax.warmup import AuxiliaryVAE
from tests import reference, tiny_models
from tests.tiny_steps import (
    LAPTOP,
    SCHEDULES,
    WEIGH,
    compiled_step,
    make_images,
    start_state,
)

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

B, K = 4, 3
RECIPE = LAPTOP._replace(importance_after=2, importance_samples=K, importance_elbo=0.3)


def _setup(transform=None):
    model = tiny_models.tiny_model(
        max_objects=3, count_threshold=6.0, objects_per_image=0.5
    )
    rates = Parts(*[optax.constant_schedule(1e-2)] * 3)
    return locating.Setup(
        model,
        AuxiliaryVAE(2, latent_channels=2, channels=4),
        optimizer.make_optimizer(transform or optax.identity(), rates, 1e9),
        SCHEDULES,
        RECIPE,
        WEIGH,
    )


def _state(setup):
    fresh = state.init_state(
        setup.model, setup.auxiliary, setup.optimizer, jax.random.key(0)
    )
    variables = tiny_models.random_variables(setup.model)
    return fresh._replace(
        params={**fresh.params, "lavae": variables["params"]},
        batch_stats=variables.get("batch_stats", {}),
    )


def _one_by_one(model, variables, x, keys):
    """ELBO terms but for those of the draws, and log weights [K, B] of single draws."""
    bound = model.bind(variables)
    key_app = jax.vmap(jax.random.split)(keys)[:, 1]
    h_loc = bound.location_logits(x)
    n = bound.count(h_loc)
    locations = draw_locations(
        h_loc,
        n,
        model.max_objects,
        keys=None,
        exclusion_radius=model.exclusion_radius,
    )
    found = bound.appearance(bound.appearance_features(x), locations)
    of_draw = jax.vmap(lambda key: jax.random.split(key, K))(key_app)
    draws = [
        objectives.appearance_log_weights(
            bound, x, found, locations, of_draw[:, k], SCHEDULES.epsilon(0)
        )
        for k in range(K)
    ]
    log_px, log_ratio = map(jnp.stack, zip(*draws, strict=True))
    certain = objectives.kl_locations(locations, model.num_sites) - bound.log_p_n(n)
    return certain, log_px, log_ratio


def test_weights_of_one_draw():
    """Log p(x | z) and log p(z_app) − log q(z_app) against NumPy, in float64."""
    setup = _setup()
    model, variables = setup.model, tiny_models.random_variables(setup.model)
    x, keys = tiny_models.binary_images(model, B), tiny_models.image_keys(B)
    height, width, _ = model.image_shape
    active = np.arange(3) < np.array([[0], [1], [3], [2]])
    site = np.random.default_rng(1).integers(0, height * width, active.shape) * active
    locations = hard_locations(jnp.asarray(site), jnp.asarray(active))
    bound = model.bind(variables)
    found = bound.appearance(bound.appearance_features(x), locations)
    log_px, log_ratio = objectives.appearance_log_weights(
        bound, x, found, locations, keys, 0.03
    )
    z_app = appearance.draw(found, keys)
    sprites = np.asarray(bound.sprites(z_app, locations.active), np.float64)
    canvas = reference.convolve(
        sprites, reference.one_hot_maps(site, active, height, width)
    )
    expected = reference.log_likelihood(x, canvas, 0.03).sum((1, 2, 3))
    np.testing.assert_allclose(log_px, expected, rtol=1e-4)
    z_app = np.asarray(z_app, np.float64)
    expected = reference.log_normal(z_app) - reference.log_normal(
        z_app, *reference.float64(found)
    )
    assert log_ratio[0] == 0
    np.testing.assert_allclose(log_ratio, (expected * active).sum(1), rtol=1e-4)


def test_a_step_against_single_draws():
    """Its metrics against float64 on draws one by one, its gradient against theirs."""
    setup = _setup()
    current = _state(setup)
    x, keys = tiny_models.binary_images(setup.model, B), tiny_models.image_keys(B)
    same, grads, _, metrics = importance_step.importance_step(setup, current, x, keys)
    jax.tree.map(np.testing.assert_array_equal, same.params, current.params)

    certain, log_px, log_ratio = map(
        lambda a: np.asarray(a, np.float64),
        _one_by_one(setup.model, current.variables, x, keys),
    )
    log_w = log_px + log_ratio
    bound = scipy.special.logsumexp(log_w, axis=0) - np.log(K) - certain
    np.testing.assert_allclose(metrics.bound, bound.mean(), rtol=1e-5)
    elbo = (log_w.mean(axis=0) - certain).mean()
    np.testing.assert_allclose(metrics.elbo, elbo, rtol=1e-5)
    loss = -(0.3 * elbo + 0.7 * bound.mean())
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    assert metrics.elbo < metrics.bound - 0.1
    assert metrics.objects > 0

    def mean_loss(rest):
        params = {**current.params["lavae"], **rest}
        variables = {**current.variables, "params": params}
        certain, log_px, log_ratio = _one_by_one(setup.model, variables, x, keys)
        weights = jax.nn.softmax(jax.lax.stop_gradient(log_px + log_ratio), axis=0)
        weights = 0.3 / K + 0.7 * weights
        return (certain - (weights * (log_px + log_ratio)).sum(axis=0)).mean()

    expected = jax.grad(mean_loss)(optimizer.split(current.params).rest)
    assert grads.location is None and grads.auxiliary is None
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        grads.rest,
        expected,
    )


def test_the_bound_is_learned():
    """On one batch it goes up, and h_loc and the auxiliary VAE stay as they are."""
    start = start_state()
    current, bounds = start._replace(step=jnp.array(2)), []
    train_step = compiled_step(RECIPE, WEIGH, 1)
    for _ in range(60):
        current, metrics = train_step(current, make_images(8))
        bounds.append(metrics.bound)
    assert np.mean(bounds[-5:]) > np.mean(bounds[:5]) + 1
    before, after = (optimizer.split(s.params) for s in (start, current))
    for part in ("location", "auxiliary"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(after, part), getattr(before, part)
        )
    moved = jax.tree.map(lambda a, b: (a != b).any(), after.rest, before.rest)
    assert all(jax.tree.leaves(moved))


def test_moments_begin_anew():
    """Those of h_app and f_sprite, in the first of these steps alone."""
    setup = _setup(optax.scale_by_adam())
    x, keys = tiny_models.binary_images(setup.model, B), tiny_models.image_keys(B)
    fresh = _state(setup)
    worn = jax.tree.map(lambda leaf: leaf + 1, fresh.opt_state)
    for made, rest in [(2, fresh.opt_state.rest), (3, worn.rest)]:
        before = fresh._replace(step=jnp.array(made), opt_state=worn)
        after, *_ = importance_step.importance_step(setup, before, x, keys)
        expected = worn._replace(rest=rest)
        jax.tree.map(np.testing.assert_array_equal, after.opt_state, expected)
