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
    variables = net.init(jax.random.key(0), None, (5, 7), method="decode")
    found = net.apply(variables, None, (5, 7), method="decode")
    np.testing.assert_array_equal(found, np.full((1, 1, 1, 3), 0.5))


@pytest.mark.parametrize("size", [(16, 20), (16, 31), (38, 52), (11, 25)])
def test_large_images_have_backgrounds_of_windows(size):
    """They are means over windows, which weigh most in their middle, by NumPy.

    An image of a window's size, here 16×20, has the background that the network infers.
    """
    variables, window, whole = _variables(), (16, 20), (40, 52)
    x = np.random.default_rng(1).uniform(size=(2, *whole, 2)).astype(np.float32)

    def infer(x):
        q = NET.apply(variables, x, method="encode")
        return np.asarray(NET.apply(variables, q.mu, x.shape[1:3], method="decode"))

    bound, sizes = NET.bind(variables), np.array([size, (40, 41)])
    found = jax.jit(lambda x: backgrounds.of_large_images(bound, x, sizes, window))(x)
    # 40 = 16 + 24 rows need 1 + 24 / 8 corners, and 52 = 20 + 32 columns 1 + 4 (3.2).
    corners = [
        (round(row), round(column))
        for row in np.float32(np.linspace(0, max(size[0] - 16, 0), 4))
        for column in np.float32(np.linspace(0, max(size[1] - 20, 0), 5))
    ]
    total, weights = np.zeros((*whole, 2)), np.zeros((*whole, 1))
    down, right = (1 - np.abs(2 * np.arange(1, n + 1) / (n + 1) - 1) for n in window)
    weight = (down[:, None] * right)[..., None]
    for row, column in corners:
        place = slice(row, row + 16), slice(column, column + 20)
        total[place] += weight * infer(x[:1, *place])[0]
        weights[place] += weight
    covered = weights[..., 0] > 0
    assert covered[: size[0], : size[1]].all()
    expected = total[covered] / weights[covered]
    np.testing.assert_allclose(np.asarray(found[0])[covered], expected, atol=1e-4)
    if size == window:
        alone = infer(x[:1, :16, :20])[0]
        np.testing.assert_allclose(found[0, :16, :20], alone, atol=1e-4)


def test_a_constant_background_of_large_images():
    """It is the same everywhere, and a black one is None."""
    net = backgrounds.ConstantBackground(2)
    bound = net.bind({"params": {"logits": jnp.array([[[[0.5, -1.0]]]])}})
    x, sizes = jnp.zeros((1, 9, 8, 2)), np.array([(7, 8)])
    found = backgrounds.of_large_images(bound, x, sizes, (4, 4))
    expected = np.broadcast_to(reference.sigmoid(np.array([0.5, -1.0])), (7, 8, 2))
    np.testing.assert_allclose(found[0, :7], expected, rtol=1e-5)
    assert backgrounds.of_large_images(None, x, sizes, (4, 4)) is None
