"""The posterior of the appearances follows Eq. 9 and 10."""

from functools import partial

import jax
import numpy as np
import pytest

from lavae_jax.latents import appearance
from lavae_jax.types import Appearance
from tests import reference

B, M, L = 3, 2, 4

_from_outputs = partial(appearance.from_outputs, mean_limit=5.0, logvar_limit=1.0)


@pytest.fixture(name="parameters")
def _parameters():
    mu, logvar = np.random.default_rng(0).normal(size=(2, B, M, L)).astype(np.float32)
    return Appearance(mu, logvar)


def _keys(n=B):
    # Keys are folded in by index, so that fewer images have the same keys.
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), np.arange(n))


@pytest.mark.standard_promotion
def test_kl(parameters):
    """The KL equals its closed form, and is 0 at the prior."""
    mu, logvar = reference.float64(parameters)
    expected = reference.gaussian_kl(mu, logvar)
    kl = jax.jit(appearance.kl)
    np.testing.assert_allclose(kl(parameters), expected, rtol=1e-5)
    zeros = np.zeros_like(parameters.mu)
    assert not kl(Appearance(zeros, zeros)).any()


@pytest.mark.standard_promotion
def test_densities(parameters):
    """Densities are those of diagonal Gaussians with the given log-variances."""
    z = np.random.default_rng(1).normal(size=(B, M, L)).astype(np.float32)
    mu, logvar = reference.float64(parameters)
    np.testing.assert_allclose(
        appearance.posterior(parameters).log_prob(z),
        reference.log_normal(z, mu, logvar),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        appearance.prior(L).log_prob(z), reference.log_normal(z), rtol=1e-5
    )


@pytest.mark.standard_promotion
def test_gradient_of_the_kl(parameters):
    """The gradient is μ for the mean and (σ² − 1) / 2 for the log-variance."""
    gradient = jax.jit(jax.grad(lambda p: appearance.kl(p).sum()))(parameters)
    np.testing.assert_allclose(gradient.mu, parameters.mu, rtol=1e-6)
    expected = (np.exp(parameters.logvar) - 1) / 2
    np.testing.assert_allclose(gradient.logvar, expected, atol=1e-6)


@pytest.mark.standard_promotion
def test_outputs_far_off_are_bent():
    """Large means grow as logarithms, with slopes; log-variances stay within limits."""
    h_app = np.random.default_rng(0).normal(size=(B, M, 2 * L)).astype(np.float32)
    h_app = np.sign(h_app) * 100 ** np.abs(h_app)  # up to thousands, either way
    found = jax.jit(_from_outputs)(h_app)
    mu, logvar = np.split(np.float64(h_app), 2, axis=-1)
    far = np.sign(mu) * (5 + np.log(np.maximum(np.abs(mu) - 4, 1)))
    expected = np.where(np.abs(mu) < 5, mu, far)
    np.testing.assert_allclose(found.mu, expected, rtol=1e-5)
    limit = np.where(logvar < 0, 8, 1)
    np.testing.assert_allclose(found.logvar, limit * np.tanh(logvar / limit), rtol=1e-5)
    slopes = jax.jit(jax.grad(lambda h: _from_outputs(h).mu.sum()))
    gradient = slopes(h_app)
    slope = np.where(np.abs(mu) < 5, 1, 1 / np.maximum(np.abs(mu) - 4, 1))
    np.testing.assert_allclose(gradient[..., :L], slope, rtol=1e-4)
    assert np.abs(mu).max() > 500 and not gradient[..., L:].any()


@pytest.mark.standard_promotion
def test_nothing_is_at_the_prior():
    """Outputs of 0, as of slots without object, give N(0, 1) and pass gradients on."""
    zeros = np.zeros((1, 1, 2 * L), np.float32)
    assert not jax.jit(lambda h: appearance.kl(_from_outputs(h)))(zeros)
    gradient = jax.grad(lambda h: sum(a.sum() for a in _from_outputs(h)))
    np.testing.assert_array_equal(jax.jit(gradient)(zeros), 1)


def test_draws_have_the_mean_and_variance():
    """Mean and deviation of draws are μ and σ, within four standard errors."""
    num = 4_000
    mu, logvar = np.float32(1.5), np.float32(-1)
    shape = (num, 1, 1)
    drawn = appearance.draw(
        Appearance(np.full(shape, mu), np.full(shape, logvar)), _keys(num)
    )
    sigma = np.exp(logvar / 2)
    assert abs(drawn.mean() - mu) < 4 * sigma / np.sqrt(num)
    assert abs(drawn.std() - sigma) < 4 * sigma / np.sqrt(2 * num)


def test_draws_do_not_depend_on_the_batch(parameters):
    """An image alone gets the draw that it gets among others."""
    together = appearance.draw(parameters, _keys())
    alone = appearance.draw(Appearance(*(a[1:2] for a in parameters)), _keys()[1:2])
    np.testing.assert_array_equal(together[1:2], alone)
    assert np.abs(together[0] - parameters.mu[0]).min() > 0


def test_draws_pass_the_gradient_on(parameters):
    """A draw's gradient is 1 for μ and noise · σ / 2 for the log-variance."""

    def total(parameters):
        return appearance.draw(parameters, _keys()).sum()

    gradient = jax.jit(jax.grad(total))(parameters)
    np.testing.assert_allclose(gradient.mu, 1)
    deviation = np.asarray(appearance.draw(parameters, _keys())) - parameters.mu
    np.testing.assert_allclose(gradient.logvar, deviation / 2, atol=1e-6)
