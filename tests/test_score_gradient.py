"""The estimated gradient of the ELBO by h_loc agrees with enumeration."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lavae_jax
from lavae_jax import objectives
from lavae_jax.latents.locations import draw_locations
from lavae_jax.networks import GlimpseAppearanceNet
from lavae_jax.training import optimizer, recipe, schedules, step
from lavae_jax.training.optimizer import Parts
from lavae_jax.training.setup import Setup
from lavae_jax.training.state import TrainState
from lavae_jax.types import hard_locations
from lavae_jax.warmup import AuxiliaryVAE
from tests import reference, tiny_models

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

H, W, M = 2, 3, 2
THRESHOLD, TEMPERATURE = 1.5, 2.0
H_LOC = np.array([[2.0, 0.1, 0.7], [0.5, -0.9, 1.2]])  # peaks at (0, 0) and (1, 2)
NUM_IMAGES, NUM_STEPS = 250, 24


class Table(nn.Module):
    """Gives location logits that are parameters, the same for every image."""

    @nn.compact
    def __call__(self, x, train):
        """Maps [B, H, W, C] to [B, H, W]."""
        del train
        h = self.param("h", nn.initializers.zeros, (H, W))
        return jnp.broadcast_to(h, (x.shape[0], H, W))


class Stamp(nn.Module):
    """Gives all appearances one sprite: log p(x | z) then depends on sites alone."""

    @nn.compact
    def __call__(self, z_app, valid, train):
        """Maps [A, L] to [A, 3, 3, 1]."""
        del valid, train
        sprite = self.param("sprite", nn.initializers.zeros, (3, 3, 1))
        return jnp.broadcast_to(nn.sigmoid(sprite), (z_app.shape[0], 3, 3, 1))


def _problem():
    """Makes a model, its variables and one image."""
    model = lavae_jax.LAVAE(
        location_net=Table(),
        appearance_net=GlimpseAppearanceNet(3, 4, 2),
        f_sprite=Stamp(),
        image_shape=(H, W, 1),
        max_objects=M,
        app_dim=2,
        sprite_size=3,
        gamma=1.0,
        count_threshold=THRESHOLD,
        epsilon=0.1,
    )
    variables = tiny_models.random_variables(model)
    variables["params"]["location_net"]["h"] = jnp.asarray(H_LOC, jnp.float32)
    return model, variables, tiny_models.binary_images(model, 1, seed=3)


def _without_location_terms(model, variables, x):
    """Returns log p(x | z) − KL_app of all ordered sites: {sites: nats}."""
    ordered = [s for n in range(M + 1) for s in reference.ordered_draws(H_LOC, n)]
    n = np.array([len(sites) for sites in ordered], np.int32)
    sites = np.array([[*s, 0, 0][:M] for s in ordered], np.int32)
    locations = hard_locations(sites, np.arange(M) < n[:, None])

    @jax.jit
    def run(x, locations, n):
        keys = jax.random.split(jax.random.key(0), len(ordered))
        terms = objectives.reconstruct(model.bind(variables), x, locations, n, keys)
        return terms.log_px - terms.kl_app

    values = np.asarray(run(x, locations, n), np.float64)
    return dict(zip(ordered, values, strict=True))


def _numbers(h, temperature):
    """Returns the probability of every n under the q(n | x) of training, [M + 1]."""
    if not temperature:  # f_count: one of the two peaks is above the threshold
        return np.eye(M + 1)[1]
    p_n = np.zeros(M + 1)
    for sites, p in reference.presences(h, THRESHOLD, temperature).items():
        p_n[min(len(sites), M)] += p
    return p_n


def _expected_elbo(h, temperature, values, logits):
    """Returns E_q of log p(x, n, z) − log q(z_loc) over n and ordered sites."""
    total = 0.0
    for n, p_n in enumerate(_numbers(h, temperature)):
        prior = reference.log_p_n(n, logits) + reference.log_p_locations(n, H * W)
        for sites, q in reference.ordered_draws(h, n).items():
            total += p_n * q * (values[sites] + prior - math.log(q))
    return total


def _expected_entropy(h, temperature):
    """Returns the entropy of the draws' steps, averaged over what q draws at H_LOC."""
    total = 0.0
    for n, p_n in enumerate(_numbers(H_LOC, temperature)):
        for sites, q in reference.ordered_draws(H_LOC, n).items():
            sites = np.array([sites], int)
            total += p_n * q * reference.location_terms(h[None], sites, [n])[1].sum()
    return total


def _slopes(function):
    """Returns the gradient at H_LOC by central differences."""
    slopes, by = np.zeros((H, W)), 1e-5
    for index in np.ndindex(H, W):
        change = np.zeros((H, W))
        change[index] = by
        slopes[index] = (function(H_LOC + change) - function(H_LOC - change)) / (2 * by)
    return slopes


def _gradients(model, variables, x, temperature):
    """Returns the gradients of many `elbo` steps of the library.

    The optimiser adds the gradient itself, and each step has the same parameters.
    """
    auxiliary = AuxiliaryVAE(1, latent_channels=1, channels=2)
    ascent = optimizer.make_optimizer(
        optax.identity(), Parts(*[optax.constant_schedule(1.0)] * 4), 1e9
    )
    setup = Setup(
        model,
        auxiliary,
        ascent,
        schedules.Schedules(*[optax.constant_schedule(0.1)] * 2),
        recipe.Recipe(
            auxiliary_steps=0,
            guided_steps=0,
            draws="score",
            num_draws=4,
            count_temperature=temperature,
            advantage_limit=1e9,
        ),
    )
    train_step = jax.jit(step.make_train_step(setup, "elbo"))
    params = {"lavae": variables["params"], "auxiliary": {"w": jnp.zeros(1)}}
    start = TrainState(jnp.array(0), params, {}, ascent.init(params), jax.random.key(4))
    images, gradients = np.repeat(x, NUM_IMAGES, axis=0), []
    for number in range(NUM_STEPS):
        after, _ = train_step(start._replace(step=jnp.array(number)), images)
        gradients.append(
            jax.tree.map(
                lambda a, b: np.float64(a) - np.float64(b), after.params, params
            )["lavae"]
        )
    return gradients


def _assert_mean(found, expected):
    """Asserts the mean within four standard errors, and returns the standard errors."""
    found = np.stack(found)
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    np.testing.assert_array_less(
        np.abs(found.mean(axis=0) - expected), 4 * error + 1e-4
    )
    return error


@pytest.mark.parametrize("temperature", [TEMPERATURE, 0.0])
def test_the_score_function_gives_the_gradient_of_the_elbo(temperature):
    """The mean gradients of h_loc and p(n) are those of the enumerated ELBO.

    The direct gradient of the entropies in KL_loc is far larger than the errors, so the
    mean would be another without it.
    """
    model, variables, x = _problem()
    logits = variables["params"]["prior_n_logits"]
    values = _without_location_terms(model, variables, x)
    exact = _slopes(lambda h: _expected_elbo(h, temperature, values, logits))
    found = _gradients(model, variables, x, temperature)
    error = _assert_mean([g["location_net"]["h"] for g in found], exact)
    assert error.max() < 0.1 * np.abs(exact).max()

    entropy = _slopes(lambda h: _expected_entropy(h, temperature))
    assert (np.abs(entropy) > 8 * error).any()
    p_n = np.exp([reference.log_p_n(n, logits) for n in range(M + 1)])
    numbers = _numbers(H_LOC, temperature)
    _assert_mean([g["prior_n_logits"] for g in found], numbers - p_n)


def test_leave_one_out():
    """Weights are draws' ELBOs less the mean of the image's others, cut at a limit."""
    elbo = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    elbo[0, 1] = -3_000
    expected = np.zeros((5, 4))
    for b, k in np.ndindex(5, 4):
        expected[b, k] = elbo[b, k] - np.delete(elbo[b], k).mean(dtype=np.float64)
    for limit in (1e9, 0.7):
        weights = objectives.leave_one_out(elbo, limit)
        cut = np.clip(expected, -limit, limit)
        np.testing.assert_allclose(weights, cut, rtol=1e-5, atol=1e-5)
    assert np.abs(weights).max() == np.float32(0.7)
    gradient = jax.grad(lambda a: objectives.leave_one_out(a, 1.0).sum())(elbo)
    assert not gradient.any()


def test_one_draw_has_no_others():
    """A single draw has weight 0: no noise without a baseline reaches h_loc."""
    assert not objectives.leave_one_out(jnp.array([[-50.0], [7.0]]), 100.0).any()


@pytest.mark.parametrize("draws", ["score", "relaxed", "straight_through"])
def test_pathwise_gradients(draws):
    """Relaxed and straight-through draws pass a gradient on to h_loc; hard ones don't.

    That of relaxed draws is the slope of log p(x | z) − KL_app for the same noise.
    """
    model = tiny_models.tiny_model((6, 7, 1), max_objects=1, appearance_net="trunk")
    variables = tiny_models.random_variables(model)
    x, keys = tiny_models.binary_images(model, 3), tiny_models.image_keys(3)
    h_loc = np.random.default_rng(0).normal(size=(3, 6, 7)).astype(np.float32)
    n = np.ones(3, np.int32)

    @jax.jit
    def value(h_loc):
        locations = draw_locations(
            h_loc,
            n,
            1,
            keys=keys,
            tau=None if draws == "score" else jnp.float32(0.5),
            straight_through=draws == "straight_through",
        )
        bound = model.bind(variables)
        terms = objectives.reconstruct(bound, x, locations, n, keys)
        return (terms.log_px - terms.kl_app).sum()

    gradient = np.asarray(jax.jit(jax.grad(value))(h_loc))
    if draws == "score":
        assert not gradient.any()
        return
    assert (np.abs(gradient).max(axis=(1, 2)) > 0.01).all()
    if draws == "relaxed":
        direction = gradient / np.linalg.norm(gradient)
        rise = value(h_loc + 1e-2 * direction) - value(h_loc - 1e-2 * direction)
        assert rise / 2e-2 == pytest.approx(np.linalg.norm(gradient), rel=0.02)
