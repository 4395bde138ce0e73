"""Objects hide each other and the background by their opacities and depths."""

import jax
import numpy as np
import pytest

from lavae_jax import blending
from tests import reference

SITES = [(2, 3), (3, 4), (6, 0)]
SIDE, SIZE = 3, (8, 7)


def _random_sprites(seed=0):
    """Returns colours and opacities, [1, 3, S, S, 2 + 1], and depths, [1, 3]."""
    rng = np.random.default_rng(seed)
    sprites = rng.uniform(size=(1, 3, SIDE, SIDE, 3)).astype(np.float32)
    return sprites, rng.normal(size=(1, 3)).astype(np.float32)


def _painted(sprites, depth, background):
    """Returns λ [H, W, C] from what the library sums, by a loop over sites."""
    layers = np.asarray(blending.to_layers(sprites, depth))
    active = np.ones((1, len(SITES)), bool)
    sites = np.array([[row * SIZE[1] + column for row, column in SITES]])
    canvas = reference.convolve(layers, reference.one_hot_maps(sites, active, *SIZE))
    return np.asarray(blending.blend(canvas.astype(np.float32), background))[0]


def _by_pixel(sprites, depth, background):
    """Returns λ [H, W, C] by the equation, pixel by pixel, in float64."""
    painted = np.zeros((*SIZE, 2))
    for row, column in np.ndindex(*SIZE):
        colour, total, transmittance = np.zeros(2), 0.0, 1.0
        for i, (y, x) in enumerate(SITES):
            u, v = row - y + SIDE // 2, column - x + SIDE // 2
            if not (0 <= u < SIDE and 0 <= v < SIDE):
                continue
            *c, alpha = np.float64(sprites[0, i, u, v])
            weight = np.exp(6 * np.tanh(np.float64(depth[0, i]) * 2 / 3)) * alpha
            colour, total = colour + weight * np.array(c), total + weight
            transmittance *= 1 - alpha
        behind = transmittance * background[0, row, column]
        shown = colour / total if total else 0
        painted[row, column] = (1 - transmittance) * shown + behind
    return painted


def test_the_sums_give_the_equation():
    """Sums of layers give λ, also where sprites overlap or are cut at the border."""
    sprites, depth = _random_sprites()
    background = np.random.default_rng(1).uniform(size=(1, *SIZE, 2))
    background = background.astype(np.float32)
    expected = _by_pixel(sprites, depth, background)
    np.testing.assert_allclose(
        _painted(sprites, depth, background), expected, rtol=1e-4, atol=1e-5
    )


def test_the_nearer_object_hides_the_other():
    """Of two opaque objects, the one of larger depth is seen where they overlap."""
    sprites, _ = _random_sprites()
    sprites[..., -1] = 1
    background = np.zeros((1, *SIZE, 2), np.float32)
    for first in (0, 1):
        depth = np.array([[-2.0, -2.0, 0.0]], np.float32)
        depth[0, first] = 2.0
        painted = _painted(sprites, depth, background)
        y, x = SITES[first]
        np.testing.assert_allclose(
            painted[y - 1 : y + 2, x - 1 : x + 2], sprites[0, first, ..., :2], atol=1e-3
        )


def test_depths_matter_only_where_objects_overlap():
    """Off the overlaps, λ is α c + (1 − α) b, whatever the depths are."""
    sprites, _ = _random_sprites()
    background = np.full((1, *SIZE, 2), 0.25, np.float32)
    alone = sprites[0, 2, :, 1:, :]  # its left column is cut at the border
    expected = alone[..., -1:] * alone[..., :-1] + (1 - alone[..., -1:]) * 0.25
    for seed in range(3):
        depth = np.random.default_rng(seed).normal(0, 2, (1, 3)).astype(np.float32)
        painted = _painted(sprites, depth, background)
        np.testing.assert_allclose(painted[5:8, :2], expected, rtol=1e-4)


@pytest.mark.parametrize("depth", [-30.0, -7.0, 0.0, 7.0, 30.0])
@pytest.mark.parametrize("alpha", [0.0, 1e-9, 0.5, 1.0])
def test_gradients_are_finite(alpha, depth):
    """Gradients stay finite for any opacity and any depth that can be drawn."""

    def painted(colour, alpha, depth):
        sprites = jax.numpy.stack([colour, alpha])[None, None, None, None]
        layers = blending.to_layers(sprites, depth[None, None])[0, 0]
        return blending.blend(layers, 0.3).sum()

    values = (np.float32(0.6), np.float32(alpha), np.float32(depth))
    value, gradients = jax.value_and_grad(painted, argnums=(0, 1, 2))(*values)
    assert value == pytest.approx(alpha * 0.6 + (1 - alpha) * 0.3, abs=1e-5)
    assert np.isfinite(gradients).all()


def test_what_an_object_covers():
    """It covers pixels that it changes at least half as much as any, by NumPy.

    A faint sprite of a bright colour covers what an opaque one of a dark colour does,
    and neither does by what it paints beyond the border.
    """
    rng = np.random.default_rng(0)
    sprites = rng.uniform(size=(2, 3, 5, 5, 3)).astype(np.float32)
    behind = rng.uniform(size=(2, 6, 7, 2)).astype(np.float32)
    sites = np.array([[0, 23, 41], [6, 24, 30]], np.int32)
    sprites[0, 1, ..., 2] *= 0.01  # it shows nothing
    found = np.asarray(jax.jit(blending.covers)(sprites, sites, behind))
    for b, m in np.ndindex(2, 3):
        change = np.zeros((5, 5))
        for i, j in np.ndindex(5, 5):
            row, column = sites[b, m] // 7 + i - 2, sites[b, m] % 7 + j - 2
            if 0 <= row < 6 and 0 <= column < 7:
                *colour, alpha = np.float64(sprites[b, m, i, j])
                change[i, j] = alpha * np.abs(colour - behind[b, row, column]).max()
        expected = (change >= change.max() / 2) & (change.max() > 0.02)
        np.testing.assert_array_equal(found[b, m], expected)
        assert found[b, m].any() == ((b, m) != (0, 1))
    black = np.zeros((1, 9, 9, 1), np.float32)
    shape = rng.uniform(0.5, 1, (5, 5, 1)).astype(np.float32)
    bright = np.concatenate([np.ones_like(shape), 0.3 * shape], axis=-1)
    dark = np.concatenate([0.3 * shape, np.ones_like(shape)], axis=-1)
    both = [
        blending.covers(a[None, None], np.array([[40]]), black) for a in (bright, dark)
    ]
    np.testing.assert_array_equal(*both)
