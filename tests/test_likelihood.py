"""Pixels follow Eq. 12, where sprites overlap and where there are none."""

import jax
import numpy as np
import pytest

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
