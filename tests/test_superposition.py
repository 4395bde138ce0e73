"""Scenes are superposed, unmoved or until their objects touch."""

import itertools

import jax
import numpy as np
import pytest

import lavae_jax
from lavae_jax.training import superposition
from tests import tiny_models

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

_superpose = jax.jit(superposition.superpose, static_argnums=(4, 5, 6))


def _touching_shifts(lit, other, overlap):
    """Returns the shifts by which `other` touches `lit`, or overlaps so many pixels."""
    height, width = lit.shape
    pixels, found = np.argwhere(other), set()
    for shift in itertools.product(range(-height, height), range(-width, width)):
        moved = pixels + shift
        if not len(moved) or (moved < 0).any() or (moved >= lit.shape).any():
            continue
        distances = np.abs(moved[:, None] - np.argwhere(lit)[None]).max(axis=2)
        if not distances.size or distances.min() > 1:
            continue
        if (distances == 0).sum() <= overlap:
            found.add(shift)
    return found


@pytest.mark.parametrize("overlap", [0, 1])
def test_shifts_at_which_scenes_touch(overlap):
    """Draws are uniform over all touching shifts, and 0 where there are none.

    With an overlap, shifts at which so many pixels are covered in both count, too.
    """
    rng, num = np.random.default_rng(0), 4_000
    lit = rng.random((6, 5, 7)) < 0.1
    other = np.zeros_like(lit)
    other[:, 1:3, 2:5] = rng.random((6, 2, 3)) < 0.5
    lit[4], other[5] = False, False
    draw = jax.jit(superposition.touching_shift, static_argnums=3)
    for b in range(6):
        repeated = (np.repeat(a[b : b + 1], num, axis=0) for a in (lit, other))
        shifts = draw(*repeated, tiny_models.image_keys(num, seed=b), overlap)
        found, times = np.unique(np.asarray(shifts), axis=0, return_counts=True)
        expected = _touching_shifts(lit[b], other[b], overlap)
        assert len(expected) >= len(_touching_shifts(lit[b], other[b], 0))
        assert bool(expected) == (b < 4)
        assert set(map(tuple, found.tolist())) == (expected or {(0, 0)})
        each = num / len(found)
        np.testing.assert_allclose(times, each, atol=5 * each**0.5)


def test_scenes_are_superposed_without_overlap():
    """Each result is the sum of image and moved partner, or the image as it was."""
    single = np.zeros((5, 4, 6, 3), np.float32)
    single[0, 0:2, 0:2, 1] = 1
    single[1, 1:3, 1:3, 2] = 1  # overlaps the one before, in another colour
    single[2, :, :, 0] = 1  # leaves no room for the one before
    single[4, 0:1, 0:2] = 1  # its partner is empty
    chosen = np.array([True, True, True, False, True])
    lit, keys = single.any(axis=-1), tiny_models.image_keys(5)
    found = _superpose(single, lit, chosen, keys, None, True)
    assert found.superposed.tolist() == [True, True, False, False, True]
    assert found.shift[0].any() and found.shift[1].any() and not found.shift[4].any()
    for b in range(5):
        other = np.roll(single[b - 1], found.shift[b], axis=(0, 1))
        expected = single[b] + other * found.superposed[b]
        np.testing.assert_array_equal(found.x[b], expected)
    assert found.x.max() == 1


@pytest.mark.parametrize("most", [0, 1])
def test_scenes_that_stay_where_they_are(most):
    """Unmoved scenes are superposed unless too many pixels are lit in both."""
    single = (np.random.default_rng(0).random((8, 5, 6, 3)) < 0.04).astype(np.float32)
    other = np.roll(single, 1, axis=0)
    overlap = (single.any(axis=-1) & other.any(axis=-1)).sum(axis=(1, 2)) > most
    chosen = np.arange(8) != 2
    keys = tiny_models.image_keys(8)
    found = _superpose(single, single.any(axis=-1), chosen, keys, None, False, most)
    expected = chosen & ~overlap
    assert 1 < expected.sum() < 8 and not found.shift.any()
    np.testing.assert_array_equal(found.superposed, expected)
    on_top = other.any(axis=-1) & expected[:, None, None]
    np.testing.assert_array_equal(found.x, np.where(on_top[..., None], other, single))


def test_objects_are_put_before_another_background():
    """Where objects are opaque, only their pixels are put on the other image."""
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(3, 5, 6, 2)).astype(np.float32)
    covered = np.zeros((3, 5, 6), bool)
    covered[0, 0, 1:3], covered[1, 3:, 4], covered[2, 2, 2] = True, True, True
    keys, chosen = tiny_models.image_keys(3), np.array([True, True, False])
    found = _superpose(x, covered, chosen, keys, None, True)
    assert found.superposed.tolist() == [True, True, False]
    for b in range(3):
        shift = tuple(found.shift[b].tolist())
        other, on_top = (np.roll(a[b - 1], shift, (0, 1)) for a in (x, covered))
        on_top &= found.superposed[b]
        expected = np.where(on_top[..., None], other, x[b])
        np.testing.assert_array_equal(found.x[b], expected)


def test_covered_pixels_are_those_that_the_model_paints():
    """Pixels are covered where a sprite changes the background half its most."""
    fields = {"pixels": "gaussian", "sigma": 0.3, "background": "constant"}
    model = tiny_models.tiny_model((9, 8, 2), compositing="alpha", **fields)
    variables = tiny_models.random_variables(model, scale=1.0)
    x = tiny_models.grey_images(model, 6)
    model = tiny_models.counting_some(model, variables, 255 * x)
    covered = jax.jit(lambda x: superposition.covered_pixels(model.bind(variables), x))(
        x
    )
    scene = lavae_jax.infer(model, variables, x)
    assert 0 < scene.n.sum() < 6 * model.max_objects
    masks = np.asarray(lavae_jax.masks(model, variables, scene))
    for b in range(6):
        expected = np.zeros((9 + 2, 8 + 2), bool)
        for slot in np.flatnonzero(scene.active[b]):
            row, column = scene.yx[b, slot]
            mask = masks[b, slot] > 0.5
            expected[row : row + 3, column : column + 3] |= mask
        expected = expected[1:-1, 1:-1]
        np.testing.assert_array_equal(covered[b], expected)
    assert 0 < covered.mean() < 1
