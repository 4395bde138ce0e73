"""Backgrounds are black, of one colour, or smooth images inferred from the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax import background as backgrounds
from lavae_jax.latents import appearance as appearances
from lavae_jax.types import Appearance
from tests import reference, tiny_models

pytestmark = pytest.mark.standard_promotion

NET = backgrounds.SmoothBackground(image_channels=2, dim=3, num_waves=3)


def _variables():
    def both(net, x):
        return net.decode(net.encode(x).mu, x.shape[1:3])

    shapes = jax.eval_shape(
        lambda key: NET.init(key, jnp.zeros((1, 16, 20, 2)), method=both),
        jax.random.key(0),
    )
    return tiny_models.random_leaves(shapes)


def test_a_smooth_background_is_a_sum_of_waves():
    """The image is the sigmoid of cosine waves, whose amplitudes are linear in z."""
    variables, size = _variables(), (7, 5)
    z = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    found = NET.apply(variables, z, size, method="decode")
    dense = jax.tree.map(np.float64, variables["params"]["decoder"])
    amplitudes = (z @ dense["kernel"] + dense["bias"]).reshape(2, 3, 3, 2)
    expected = np.zeros((2, *size, 2))
    for i, j in np.ndindex(3, 3):
        for row, column in np.ndindex(*size):
            down = np.cos(np.pi * i * (row + 0.5) / size[0])
            right = np.cos(np.pi * j * (column + 0.5) / size[1])
            expected[:, row, column] += amplitudes[:, i, j] * down * right
    np.testing.assert_allclose(found, reference.sigmoid(expected), rtol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (19, 33)])
def test_the_encoder_sees_parts_of_the_image(size):
    """It sees mean, least and largest value of 8×8 parts, of images of any size."""
    x = np.random.default_rng(0).uniform(size=(1, *size, 2)).astype(np.float32)
    expected = []
    for rows in np.array_split(x[0], 8, axis=0):
        for part in np.array_split(rows, 8, axis=1):
            pixels = np.float64(part).reshape(-1, 2)
            expected += [*pixels.mean(0), *pixels.min(0), *pixels.max(0)]
    np.testing.assert_allclose(backgrounds._summary(x)[0], expected, rtol=1e-5)


def test_draws_are_not_those_of_the_objects():
    """Draws have the posterior's moments, and other numbers than z_app's draws."""
    q = Appearance(jnp.full((4_000, 2), 0.5), jnp.full((4_000, 2), -1.0))
    keys = tiny_models.image_keys(4_000)
    z = np.float64(backgrounds.draw(q, keys))
    np.testing.assert_allclose(z.mean(0), 0.5, atol=0.04)
    np.testing.assert_allclose(z.std(0), np.exp(-0.5), rtol=0.05)
    other = np.float64(appearances.draw(q, keys))
    correlation = np.corrcoef(z[:, 0], other[:, 0])[0, 1]
    assert abs(correlation) < 0.06
    assert backgrounds.draw(None, keys) is None


def test_a_constant_background_starts_grey():
    """One value per channel, in [0, 1], is learned; it starts in the middle."""
    net = backgrounds.ConstantBackground(3)
    variables = net.init(jax.random.key(0))
    found = net.apply(variables)
    np.testing.assert_array_equal(found, np.full((1, 1, 1, 3), 0.5))
