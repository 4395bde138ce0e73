"""The ELBO and the K-sample bound stay below log p(x), enumerated over n and sites."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from lavae_jax import objectives
from lavae_jax.types import hard_locations
from tests import reference, tiny_models

# distrax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

_elbo = jax.jit(objectives.elbo, static_argnums=0)
_log_weights = jax.jit(objectives.log_weights, static_argnums=(0, 4))


def _log_joint(model, variables, x, num_nodes):
    """Returns log p(x, n), [B, M + 1]: locations are enumerated, z_app integrated."""
    # Nodes are even, as kinks of leaky ReLUs slow Gauss-Hermite quadrature down.
    nodes = np.linspace(-6, 6, num_nodes)
    weights = np.exp(-(nodes**2) / 2)
    weights = weights / weights.sum()
    z = jnp.zeros((num_nodes, 2, 1)).at[:, 0, 0].set(nodes.astype(np.float32))
    active = np.tile([True, False], (num_nodes, 1))
    decode = jax.jit(functools.partial(model.apply, method="sprites"))
    sprites = np.float64(decode(variables, z, active)[:, :1])
    H, W, _ = model.image_shape
    D = H * W
    painted = [  # [D] of [nodes, H, W, C]
        reference.convolve(
            sprites,
            reference.one_hot_maps(np.full((num_nodes, 1), d), active[:, :1], H, W),
        )
        for d in range(D)
    ]

    def log_px(canvas, x):
        return reference.log_likelihood(x, canvas, model.epsilon).sum((-3, -2, -1))

    logits = variables["params"].get("prior_location", jnp.zeros((H, W)))
    prior = special.softmax(np.float64(logits).ravel())
    joint = []
    for image in x:
        none = np.exp(log_px(np.zeros(model.image_shape), image))
        one = prior @ [weights @ np.exp(log_px(a, image)) for a in painted]
        two = 0.0
        for a, b in itertools.permutations(range(D), 2):
            both = painted[a][:, None] + painted[b][None]
            share = weights @ np.exp(log_px(both, image)) @ weights
            two += prior[a] * prior[b] / (1 - prior[a]) * share
        joint.append([none, one, two])
    logits = variables["params"]["prior_n_logits"]
    return np.log(joint) + [reference.log_p_n(n, logits) for n in range(3)]


@pytest.mark.parametrize("location_prior", ["uniform", "learned"])
def test_bounds_against_enumeration(location_prior):
    """The bound rises from the ELBO with the samples, and stays below log p(x).

    More strictly, weights average to p(x, n̂), whatever q is, and the analytic KL terms
    give the same expectation as the sampled ones.
    """
    model = tiny_models.tiny_model(
        (3, 3, 1),
        max_objects=2,
        app_dim=1,
        epsilon=0.1,
        gamma=0.3,
        location_prior=location_prior,
    )
    variables = tiny_models.random_variables(model, seed=1)
    # With q(z_app | x) wider than the posterior, weights have a small variance.
    head = variables["params"]["appearance_net"]["network"]["Dense_3"]
    head["kernel"], head["bias"] = 0.2 * head["kernel"], jnp.array([0.2, 0.4])
    x, num_samples = tiny_models.binary_images(model, 6, seed=1), 8_000
    joint = _log_joint(model, variables, x, 91)
    # The integral has converged.
    np.testing.assert_allclose(joint, _log_joint(model, variables, x, 61), atol=2e-3)

    log_w = np.float64(
        _log_weights(model, variables, x, tiny_models.image_keys(6), num_samples)
    )

    @jax.jit
    def count(x):
        bound = model.bind(variables)
        return bound.count(bound.location_logits(x))

    n = count(x)
    assert set(np.asarray(n).tolist()) >= {1, 2}
    w = np.exp(log_w - joint[np.arange(6), n])
    error = w.std(0) / math.sqrt(num_samples)
    assert error.max() < 0.03
    np.testing.assert_array_less(np.abs(w.mean(0) - 1), 4 * error + 5e-3)

    log_px = np.log(np.exp(joint).sum(1))
    bounds = [
        np.log(np.exp(log_w).reshape(-1, k, 6).mean(1)).mean(0) for k in (1, 5, 50)
    ]
    assert (bounds[0] < bounds[1]).all()
    assert (bounds[1] < bounds[2]).all()
    assert (bounds[2] < log_px).all()

    repeated, keys = np.repeat(x, 1_000, axis=0), tiny_models.image_keys(6_000, seed=1)
    analytic = np.float64(_elbo(model, variables, repeated, keys).elbo).reshape(6, -1)
    error = np.hypot(
        analytic.std(1) / math.sqrt(1_000), log_w.std(0) / num_samples**0.5
    )
    np.testing.assert_array_less(np.abs(analytic.mean(1) - bounds[0]), 4 * error)


def test_bounds_with_a_background():
    """Weights average to p(x, n = 1) where objects hide a background with a latent.

    The depth and the other number of z_app, and z_bg, are integrated on a grid.
    """
    model = tiny_models.tiny_model(
        (3, 3, 1),
        max_objects=1,
        app_dim=2,
        gamma=0.3,
        count_threshold=-1e3,  # n is 1
        pixels="gaussian",
        sigma=0.9,
        compositing="alpha",
        background="smooth",
    )
    variables = tiny_models.random_variables(model, seed=1)
    # With q wider than the posterior, weights have a small variance.
    params = variables["params"]
    for network, scale in (
        (params["appearance_net"]["network"], 0.1),
        (params["background_net"]["encoder"], 1e-3),  # it is wide
    ):
        head = network["Dense_3"]
        head["kernel"] = scale * head["kernel"]
        head["bias"] = jnp.zeros_like(head["bias"])
    x = tiny_models.grey_images(model, 3)
    nodes = np.linspace(-5, 5, 25)
    z = np.stack(np.meshgrid(nodes, nodes, nodes), -1).reshape(-1, 3)
    log_p_z = reference.log_normal(z) + 3 * np.log(nodes[1] - nodes[0])

    @jax.jit
    def paint(z, site):
        site = jnp.full((len(z), 1), site)
        locations = hard_locations(site, jnp.ones((len(z), 1), bool))
        return model.bind(variables).paint(z[:, None, :2], z[:, 2:], locations)

    log_joint = []
    for image in x:
        log_p = [
            stats.norm.logpdf(image, np.float64(paint(np.float32(z), d)), model.sigma)
            for d in range(9)
        ]
        log_px = np.stack(log_p).sum((-3, -2, -1)) - np.log(9)
        log_joint.append(np.logaddexp.reduce((log_px + log_p_z).ravel()))
    log_p_n = reference.log_p_n(1, variables["params"]["prior_n_logits"])
    keys, num_samples = tiny_models.image_keys(3), 20_000
    log_w = np.float64(_log_weights(model, variables, x, keys, num_samples))
    w = np.exp(log_w - np.array(log_joint) - log_p_n)
    error = w.std(0) / math.sqrt(num_samples)
    assert error.max() < 0.05
    np.testing.assert_array_less(np.abs(w.mean(0) - 1), 4 * error + 5e-3)
    repeated, keys = np.repeat(x, 1_000, axis=0), tiny_models.image_keys(3_000, seed=1)
    analytic = np.float64(_elbo(model, variables, repeated, keys).elbo).reshape(3, -1)
    error = np.hypot(
        analytic.std(1) / math.sqrt(1_000), log_w.std(0) / num_samples**0.5
    )
    difference = np.abs(analytic.mean(1) - log_w.mean(0))
    np.testing.assert_array_less(difference, 4 * error)
