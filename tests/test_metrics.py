"""Metrics equal loops and hand-computed cases, and have the promised invariances."""

import itertools
import math

import numpy as np
import pytest

from lavae_jax import metrics


def test_mean_and_error_by_hand():
    """The standard error is the square root of the unbiased variance over N."""
    estimate = metrics.mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert estimate.mean == pytest.approx(3.0)
    assert estimate.standard_error == pytest.approx(math.sqrt(7.0 / 3))
    assert estimate.num == 3


def test_mean_and_error_of_too_few_values_is_nan():
    """One value has a mean and no error; no values have neither, without a warning."""
    single, none = metrics.mean_and_error([4.0]), metrics.mean_and_error([])
    assert single.mean == 4.0 and math.isnan(single.standard_error)
    assert math.isnan(none.mean) and math.isnan(none.standard_error)
    assert (single.num, none.num) == (1, 0)


def test_confusion_has_true_counts_in_rows():
    """Rows are true counts, not inferred ones; the trace gives the accuracy."""
    true_n, inferred_n = [0, 1, 1, 3, 3, 3], [0, 1, 2, 3, 3, 0]
    confusion = metrics.count_confusion(true_n, inferred_n, 3)
    expected = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 2]]
    np.testing.assert_array_equal(confusion, expected)
    accuracy = metrics.count_accuracy(true_n, inferred_n)
    assert accuracy == pytest.approx(np.trace(confusion) / 6) == pytest.approx(4 / 6)


def _best_distances(true, inferred):
    """Returns the distances of the cheapest match, found by trying all permutations."""
    short, long = sorted((true, inferred), key=len)
    best = min(
        itertools.permutations(range(len(long)), len(short)),
        key=lambda order: np.linalg.norm(short - long[list(order)], axis=1).sum(),
    )
    return np.linalg.norm(short - long[list(best)], axis=1)


def test_location_error_equals_search_over_permutations():
    """The error of noisy, shuffled, incomplete detections is that of the best match."""
    rng = np.random.default_rng(0)
    true = [rng.uniform(0, 64, (n, 2)) for n in (3, 0, 1, 4, 5, 2, 3)]
    inferred = [rng.permutation(yx + rng.normal(0, 0.3, yx.shape)) for yx in true]
    inferred[3] = inferred[3][:3]
    inferred[1] = rng.uniform(0, 64, (2, 2))
    inferred[5] = np.concatenate([inferred[5], rng.uniform(0, 64, (1, 2))])
    error = metrics.location_error(true, inferred)
    shifted = [yx - np.array(error.offset) for yx in inferred]
    expected = np.concatenate(
        [_best_distances(a, b) for a, b in zip(true, shifted, strict=True)]
    )
    assert error.mean == pytest.approx(expected.mean())
    assert error.median == pytest.approx(np.median(expected))
    assert error.rms == pytest.approx(np.sqrt((expected**2).mean()))
    assert (error.num_matched, error.num_missed, error.num_spurious) == (17, 1, 3)


def test_location_error_removes_and_states_a_constant_offset():
    """A shift of every centre is found with its sign, and costs nothing."""
    rng = np.random.default_rng(1)
    true = [12.0 * rng.permutation(5)[:3, None] + [[0.0, 5.0]] for _ in range(9)]
    inferred = [rng.permutation(yx) + np.array([-1.5, 2.0]) for yx in true]
    error = metrics.location_error(true, inferred)
    assert error.offset == pytest.approx((-1.5, 2.0))
    assert error.mean == pytest.approx(0.0, abs=1e-9)


def test_location_error_without_any_match_is_nan():
    """Without a match the error is NaN; missed and spurious objects still count."""
    error = metrics.location_error([np.ones((2, 2)), []], [[], np.ones((1, 2))])
    assert math.isnan(error.mean) and math.isnan(error.offset[0])
    assert (error.num_matched, error.num_missed, error.num_spurious) == (0, 2, 1)


def test_importance_bounds_equal_plain_averages():
    """Bounds of groups of K weights equal averages of plain exponentials."""
    log_w = np.random.default_rng(6).normal(-2, 1.5, (7, 4))
    bounds = metrics.importance_bounds(log_w, (1, 3, 7))
    assert [bound.num_samples for bound in bounds] == [1, 3, 7]
    w = np.exp(log_w)
    np.testing.assert_allclose(bounds[0].log_p, log_w.mean(0))
    groups = [w[:3], w[3:6]]
    expected = np.mean([np.log(g.mean(0)) for g in groups], axis=0)
    np.testing.assert_allclose(bounds[1].log_p, expected)
    sizes = [g.sum(0) ** 2 / (g**2).sum(0) for g in groups]
    np.testing.assert_allclose(bounds[1].effective_samples, np.mean(sizes, axis=0))
    np.testing.assert_allclose(bounds[2].log_p, np.log(w.mean(0)))
    np.testing.assert_allclose(bounds[0].effective_samples, 1.0)


def test_importance_bounds_far_from_zero():
    """Weights whose exponentials underflow keep their bound and sample size."""
    log_w = np.log(np.array([[1.0], [2.0], [5.0]])) - 20000
    (bound,) = metrics.importance_bounds(log_w, (3,))
    np.testing.assert_allclose(bound.log_p, np.log(8 / 3) - 20000)
    np.testing.assert_allclose(bound.effective_samples, 64 / 30)


def test_importance_bounds_of_zero_weights():
    """If all weights are 0, log p is -inf and no sample is effective, without NaN."""
    (bound,) = metrics.importance_bounds(np.full((2, 1), -np.inf), (2,))
    assert bound.log_p == -np.inf and bound.effective_samples == 0.0
