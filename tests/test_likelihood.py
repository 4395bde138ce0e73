"""Pixels follow Eq. 12, where sprites overlap and where there are none."""

import jax
import numpy as np
import pytest
from scipy import stats

from lavae_jax import likelihood
from tests import reference

# distrax mixes dtypes.
pytestmark = pytest.mark.standard_promotion

EPSILON = 1e-3
CANVAS = np.array([0, 1e-4, 0.3, 0.999, 1, 1.7], np.float32)


@pytest.mark.parametrize("epsilon", [EPSILON, 1e-6])
@pytest.mark.parametrize("pixel", [0, 1])
def test_log_likelihood(epsilon, pixel):
    """Log p(x) equals float64's off sprites (λ = 0) and where they overlap (λ > 1)."""
    x = np.full(CANVAS.shape, pixel, np.float32)
    expected = reference.log_likelihood(x, CANVAS, epsilon)
    # 1 − ε has 24 binary digits, hence ε = 1e-6 is known to 3%.
    tolerance = {"rtol": 1e-4} if epsilon == EPSILON else {"atol": 0.04}
    np.testing.assert_allclose(
        likelihood.log_likelihood(x, CANVAS, epsilon), expected, **tolerance
    )


def test_means_stay_inside():
    """Pixel means lie in [ε, 1 − ε] and reach both ends."""
    means = likelihood.pixel_mean(CANVAS, EPSILON)
    expected = reference.pixel_mean(CANVAS.astype(np.float64), EPSILON)
    np.testing.assert_allclose(means, expected, rtol=1e-5)
    np.testing.assert_allclose([means[0], means[-1]], [EPSILON, 1 - EPSILON], rtol=1e-5)


def test_the_gradient_passes_the_upper_cut():
    """Where λ > 1 and the pixel is black, the loss still pulls λ down, finitely."""
    gradient = jax.vmap(jax.grad(likelihood.log_likelihood, argnums=1), (0, 0, None))
    black = gradient(np.zeros_like(CANVAS), CANVAS, EPSILON)
    p = reference.pixel_mean(CANVAS.astype(np.float64), EPSILON)
    np.testing.assert_allclose(black, -(1 - 2 * EPSILON) / (1 - p), rtol=1e-3)
    white = gradient(np.ones_like(CANVAS), CANVAS, EPSILON)
    np.testing.assert_allclose(white, (1 - 2 * EPSILON) / p, rtol=1e-3)


@pytest.mark.parametrize("sigma", [0.02, 0.3])
def test_normal_pixels(sigma):
    """The log-density is that of a normal distribution around λ."""
    x = np.linspace(0, 1, len(CANVAS), dtype=np.float32)
    expected = stats.norm.logpdf(np.float64(x), np.float64(CANVAS), sigma)
    found = likelihood.log_likelihood(x, CANVAS, sigma, "gaussian")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("canvas", [0.0, 0.303, 1.0])
def test_discretised_pixels(canvas, sigma):
    """Log-probabilities of all 256 values equal float64's, far out in the tails too."""
    x = np.arange(256) / 255
    cdf = stats.norm(canvas, sigma).cdf
    low, high = x - 0.5 / 255, x + 0.5 / 255
    # The smaller one of both tails keeps its digits.
    upper = stats.norm(canvas, sigma).sf
    expected = np.where(x < canvas, cdf(high) - cdf(low), upper(low) - upper(high))
    expected[0], expected[-1] = cdf(high[0]), upper(low[-1])
    assert expected.sum() == pytest.approx(1)
    means = np.full(256, canvas, np.float32)
    found = likelihood.log_likelihood(np.float32(x), means, sigma, "discretised")
    known = expected > 1e-300
    np.testing.assert_allclose(found[known], np.log(expected[known]), 2e-3, 2e-3)
    assert np.isfinite(found).all()


def test_gradients_of_discretised_pixels_are_finite():
    """Every pixel pulls λ towards itself, at the mean as in the tails."""
    x = np.float32(np.arange(256) / 255)
    for sigma in (0.01, 0.1):
        gradient = jax.vmap(
            jax.grad(
                lambda canvas, x, s=sigma: likelihood.log_likelihood(
                    x, canvas, s, "discretised"
                )
            )
        )(np.full(256, 100 / 255, np.float32), x)
        assert np.isfinite(gradient).all()
        assert (np.sign(gradient[:99]) == -1).all()
        assert (np.sign(gradient[102:]) == 1).all()


def test_a_learned_sigma_starts_wide_and_stays_above_its_limit():
    """σ is 0.3 at first, falls quickly with its parameter, and not below 0.01."""
    assert likelihood.learned_sigma(0.0) == pytest.approx(0.3)
    expected = 0.01 + 0.29 / np.e
    assert likelihood.learned_sigma(-0.05) == pytest.approx(expected, rel=1e-5)
    assert likelihood.learned_sigma(-1.0) == pytest.approx(0.01)
    assert jax.grad(likelihood.learned_sigma)(-1.0) > 0  # it can rise again


def test_bits_per_dimension():
    """A model that gives every 8-bit value the same probability needs 8 bits."""
    nats = 6 * 5 * 3 * np.log(256)
    assert likelihood.bits_per_dimension(nats, (6, 5, 3)) == pytest.approx(8)
