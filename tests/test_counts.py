"""Eq. 2 and 7, and f_count of Appendix B."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lavae_jax.latents import counts
from tests import reference


@pytest.mark.parametrize("max_objects", [3, 100])
def test_f_count_is_the_loop(max_objects):
    """On random maps, borders and corners included, capped at M."""
    h_loc = np.random.default_rng(0).normal(size=(3, 9, 7)).astype(np.float32)
    expected = reference.f_count(h_loc, 0.3, max_objects)
    n = counts.f_count(h_loc, 0.3, max_objects)
    assert n.dtype == jnp.int32
    np.testing.assert_array_equal(n, expected)
    assert (expected == 3).all() == (max_objects == 3)


def test_f_count_counts_peaks_above_the_threshold():
    """Two far peaks are two, neighbours are one, what reaches the threshold is none."""
    h = np.zeros((4, 5, 6), np.float32)
    h[0, 0, 0], h[0, 4, 5] = 17, 20  # two corners
    h[1, 2, 2], h[1, 3, 3] = 17, 18  # diagonal neighbours
    h[2, 2, 2] = 16  # not above the threshold
    h[3, 2, 2], h[3, 2, 4] = 17, 18  # one pixel between them
    np.testing.assert_array_equal(counts.f_count(h, 16.0, 10), [2, 1, 0, 2])


def test_peaks_of_negative_maps_at_the_border():
    """Beyond the border there is nothing that could be higher."""
    h = np.full((1, 4, 4), -3.0, np.float32)
    h[0, 0, 2] = -1
    marked = np.argwhere(counts.local_maxima(h)[0])
    assert [0, 2] in marked.tolist()
    np.testing.assert_array_equal(counts.f_count(h, -2.0, 10), [1])


@pytest.mark.parametrize(
    ("operation", "init", "numpy"), [(lax.add, 0.0, np.sum), (lax.max, -np.inf, np.max)]
)
def test_reduce_square(operation, init, numpy):
    """The square around every point, cut at the border."""
    a = np.random.default_rng(1).normal(size=(2, 6, 8)).astype(np.float32)
    expected = np.zeros_like(a)
    for b, row, column in np.ndindex(*a.shape):
        expected[b, row, column] = numpy(reference.around(a[b], row, column, 5))
    reduced = counts.reduce_square(a, 5, operation, init)
    np.testing.assert_allclose(reduced, expected, atol=1e-5)


def test_active_slots():
    """The first n of M."""
    active = counts.active_slots(jnp.array([0, 2, 3], jnp.int32), 3)
    np.testing.assert_array_equal(active, [[0, 0, 0], [1, 1, 0], [1, 1, 1]])


@pytest.mark.standard_promotion
def test_log_p_n():
    """Eq. 2: a normalised distribution over 0 to M."""
    logits = np.random.default_rng(2).normal(size=5).astype(np.float32)
    log_p = counts.log_p_n(jnp.arange(5), logits)
    expected = [reference.log_p_n(n, logits) for n in range(5)]
    np.testing.assert_allclose(log_p, expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1, atol=1e-6)
