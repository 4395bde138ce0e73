"""The number of objects follows Eq. 2 and 7, and f_count of Appendix B."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax.latents import counts
from lavae_jax.latents.locations import draw_locations
from tests import reference


def _maps(num_images=3):
    """Makes random maps, of which the even ones have ties and plateaus."""
    h = np.random.default_rng(0).normal(size=(2 * num_images, 9, 12))
    h[::2] = np.round(h[::2])
    return h.astype(np.float32)


@pytest.mark.parametrize("radius", [0, 2, 4])
def test_peaks_are_the_loop(radius):
    """Peaks are those of a loop, with and without ties, at borders and corners too."""
    h_loc = _maps()
    expected = [reference.peaks(h, radius) for h in h_loc]
    found = np.asarray(counts.peaks(h_loc, radius)).reshape(len(h_loc), -1)
    assert [np.flatnonzero(row).tolist() for row in found] == expected


@pytest.mark.parametrize(("max_objects", "radius"), [(3, 0), (100, 0), (100, 2)])
def test_f_count_is_the_loop(max_objects, radius):
    """f_count is the number of peaks above the threshold, capped at M."""
    expected = reference.f_count(_maps(), 0.3, max_objects, radius)
    n = counts.f_count(_maps(), 0.3, max_objects, radius)
    assert n.dtype == jnp.int32
    np.testing.assert_array_equal(n, expected)
    assert (expected == max_objects).any() == (max_objects == 3)


def test_maxima_within_the_radius_are_one():
    """Of two near maxima the higher or first counts; a pixel farther apart, both do.

    `draw_locations` could not put two objects within the radius.
    """
    h = np.zeros((3, 9, 12), np.float32)
    h[0, 4, 2], h[0, 4, 4] = 17, 18
    h[1, 2, 6], h[1, 4, 4] = 18, 18
    h[2, 4, 2], h[2, 4, 5] = 17, 18
    np.testing.assert_array_equal(counts.f_count(h, 16.0, 10), [2, 2, 2])
    np.testing.assert_array_equal(counts.f_count(h, 16.0, 10, radius=2), [1, 1, 2])
    high = np.asarray(counts.peaks(h, radius=2)) & (h > 16)
    expected = [[0, 4, 4], [1, 2, 6], [2, 4, 2], [2, 4, 5]]
    assert np.argwhere(high).tolist() == expected


@pytest.mark.standard_promotion
@pytest.mark.parametrize("radius", [0, 2, 4])
def test_the_likeliest_sites_are_the_counted_peaks(radius):
    """Where peaks are steep, as after training, the likeliest sites are those counted.

    That includes plateaus no wider than the radius. No object is left without a site,
    which would put it on site 0.
    """
    rng, h = np.random.default_rng(1), np.full((6, 15, 18), -20, np.float32)
    side = 1 + radius // 2
    for image in h:
        for row, column in np.ndindex(2, 2):  # too far apart to be one
            row, column = 8 * row + rng.integers(0, 2), 9 * column + rng.integers(0, 3)
            image[row : row + side, column : column + side] = rng.integers(15, 20)

    @jax.jit
    def run(h):
        n = counts.f_count(h, 16.0, 5, radius)
        return n, draw_locations(h, n, 5, keys=None, exclusion_radius=radius)

    n, locations = run(h)
    assert len(set(np.asarray(n).tolist())) > 1
    for image, sites, number in zip(h, np.asarray(locations.site), n, strict=True):
        counted = {s for s in reference.peaks(image, radius) if image.flat[s] > 16}
        assert set(sites[:number].tolist()) == counted


def _three_peaks():
    """Makes a map with three peaks of different heights, on both sides of 16."""
    row, column = np.mgrid[:4, :9]
    cones = [
        height - 2 * np.hypot(row - y, column - x)
        for height, y, x in [(15.0, 0, 0), (17.5, 2, 4), (16.2, 1, 8)]
    ]
    return np.max(cones, axis=0).astype(np.float32)


@pytest.mark.parametrize("max_objects", [2, 5])
def test_draws_of_n_are_those_enumerated(max_objects):
    """Choices of peaks have the enumerated frequencies, and log_q their probabilities.

    Frequencies lie within three times the variation by chance; n is capped at M.
    """
    h, num_draws = _three_peaks(), 20_000
    chosen = reference.presences(h, 16.0, 1.5)
    assert len(chosen) == 8
    n, log_q = counts.draw_n(
        np.broadcast_to(h, (num_draws, *h.shape)),
        16.0,
        max_objects,
        1.5,
        jax.random.split(jax.random.key(0), num_draws),
    )
    assert n.dtype == jnp.int32
    sizes, p = np.array([len(sites) for sites in chosen]), np.array([*chosen.values()])
    error = np.abs(np.asarray(log_q, np.float64)[:, None] - np.log(p)[None])
    np.testing.assert_allclose(error.min(axis=1), 0, atol=1e-5)
    which = error.argmin(axis=1)
    np.testing.assert_array_equal(n, np.minimum(sizes, max_objects)[which])
    frequency = np.bincount(which, minlength=8) / num_draws
    by_chance = 0.5 * np.sqrt(2 * p * (1 - p) / (np.pi * num_draws)).sum()
    assert 0.5 * np.abs(frequency - p).sum() < 3 * by_chance


def test_the_gradient_of_log_q_raises_and_lowers_the_peaks():
    """The gradient is (decision − σ) / T at every peak, and 0 at every other site."""
    h, key = _three_peaks()[None], jax.random.split(jax.random.key(3), 1)

    def log_q(h):
        return counts.draw_n(h, 16.0, 5, 1.5, key)[1].sum()

    gradient = np.asarray(jax.grad(log_q)(h), np.float64)[0]
    peaks = reference.peaks(h[0])
    elsewhere = np.delete(gradient.ravel(), peaks)
    assert not elsewhere.any()
    p = reference.sigmoid((h.ravel()[peaks] - 16) / 1.5)
    is_object = 1.5 * gradient.ravel()[peaks] + p
    np.testing.assert_allclose(is_object, np.round(is_object), atol=1e-6)
    assert set(np.round(is_object).tolist()) <= {0, 1}


@pytest.mark.parametrize("radius", [0, 2])
def test_cold_draws_of_n_are_f_count(radius):
    """As T → 0, draws of n become f_count, with probability 1."""
    h_loc = _maps()
    n, log_q = counts.draw_n(
        h_loc, 0.3, 4, 1e-4, jax.random.split(jax.random.key(0), len(h_loc)), radius
    )
    np.testing.assert_array_equal(n, reference.f_count(h_loc, 0.3, 4, radius))
    np.testing.assert_allclose(log_q, 0, atol=1e-6)


@pytest.mark.standard_promotion
def test_log_p_n():
    """The log of p(n) is Eq. 2, a normalised distribution over 0 to M."""
    logits = np.random.default_rng(2).normal(size=5).astype(np.float32)
    log_p = counts.log_p_n(jnp.arange(5), logits)
    expected = [reference.log_p_n(n, logits) for n in range(5)]
    np.testing.assert_allclose(log_p, expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1, atol=1e-6)
