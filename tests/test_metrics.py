"""Metrics against loops, hand-computed cases and the invariances they promise."""

import itertools
import math

import numpy as np
import pytest

from lavae_jax import metrics


def test_mean_and_error_by_hand():
    """The error is that of the mean: sqrt of the unbiased variance over N."""
    estimate = metrics.mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert estimate.mean == pytest.approx(3.0)
    assert estimate.standard_error == pytest.approx(math.sqrt(7.0 / 3))
    assert estimate.num == 3


def test_mean_and_error_of_too_few_values_is_nan():
    """One value has a mean and no error; none has neither, without a warning."""
    single, none = metrics.mean_and_error([4.0]), metrics.mean_and_error([])
    assert single.mean == 4.0 and math.isnan(single.standard_error)
    assert math.isnan(none.mean) and math.isnan(none.standard_error)
    assert (single.num, none.num) == (1, 0)


def test_confusion_has_true_counts_in_rows():
    """An asymmetric case told apart from its transpose; the trace is the accuracy."""
    true_n, inferred_n = [0, 1, 1, 3, 3, 3], [0, 1, 2, 3, 3, 0]
    confusion = metrics.count_confusion(true_n, inferred_n, 3)
    expected = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 2]]
    np.testing.assert_array_equal(confusion, expected)
    accuracy = metrics.count_accuracy(true_n, inferred_n)
    assert accuracy == pytest.approx(np.trace(confusion) / 6) == pytest.approx(4 / 6)


@pytest.mark.parametrize("true_n, inferred_n", [([0, 4], [0, 1]), ([1], [-1])])
def test_confusion_refuses_counts_out_of_range(true_n, inferred_n):
    """A count that has no row or column is named instead of wrapping around."""
    with pytest.raises(ValueError, match=r"must lie in 0\.\.3"):
        metrics.count_confusion(true_n, inferred_n, 3)


def test_counts_of_different_length_are_refused():
    """Comparing different images is an error, not a broadcast."""
    with pytest.raises(ValueError, match="same images"):
        metrics.count_accuracy(np.array([1]), np.array([1, 1]))


def _best_distances(true, inferred):
    """Distances of the cheapest one-to-one match, by trying every permutation."""
    short, long = sorted((true, inferred), key=len)
    best = min(
        itertools.permutations(range(len(long)), len(short)),
        key=lambda order: np.linalg.norm(short - long[list(order)], axis=1).sum(),
    )
    return np.linalg.norm(short - long[list(best)], axis=1)


def test_location_error_equals_search_over_permutations():
    """Noisy, shuffled and incomplete detections, against every possible match."""
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


def test_location_error_by_hand():
    """Offset (0, 1) is the median of (0, 1), (0, 1), (3, 1): distances 0, 0, 3."""
    true = [np.array([[10, 10], [40, 20]]), np.array([[30, 30]])]
    inferred = [np.array([[40, 21], [10, 11]]), np.array([[33, 31]])]
    error = metrics.location_error(true, inferred)
    assert error.offset == (0.0, 1.0)
    assert error.mean == pytest.approx(1.0)
    assert error.median == 0.0
    assert error.rms == pytest.approx(math.sqrt(3.0))


def test_location_error_without_any_match_is_nan():
    """Nothing to measure gives NaN, and what was missed is still counted."""
    error = metrics.location_error([np.ones((2, 2)), []], [[], np.ones((1, 2))])
    assert math.isnan(error.mean) and math.isnan(error.offset[0])
    assert (error.num_matched, error.num_missed, error.num_spurious) == (0, 2, 1)


def test_location_error_refuses_different_numbers_of_images():
    """One array per image on both sides."""
    with pytest.raises(ValueError, match="one array per image"):
        metrics.location_error([np.zeros((1, 2))], [])


def _segment_by_pixel(yx, active, sprites, size):
    """The definition, one pixel at a time."""
    half = sprites.shape[2] // 2
    labels = np.zeros((len(yx), *size), int)
    for b, row, column in np.ndindex(labels.shape):
        strongest = 0.5
        for i in np.flatnonzero(active[b]):
            u, v = row - yx[b, i, 0] + half, column - yx[b, i, 1] + half
            inside = 0 <= u < sprites.shape[2] and 0 <= v < sprites.shape[3]
            if inside and sprites[b, i, u, v].max() > strongest:
                strongest, labels[b, row, column] = sprites[b, i, u, v].max(), i + 1
    return labels


def test_segment_equals_loop_over_pixels():
    """Overlaps, cut sprites, unequal sides and slots not in use."""
    rng = np.random.default_rng(2)
    sprites = rng.uniform(0, 1, (4, 3, 5, 5, 2)).astype(np.float32)
    yx = np.stack([rng.integers(0, 9, (4, 3)), rng.integers(0, 7, (4, 3))], -1)
    yx[0, 0], yx[0, 1] = (0, 0), (8, 6)
    active = rng.uniform(size=(4, 3)) < 0.7
    labels = metrics.segment(yx, active, sprites, (9, 7))
    assert labels.shape == (4, 9, 7)
    expected = _segment_by_pixel(yx, active, sprites, (9, 7))
    np.testing.assert_array_equal(labels, expected)
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_segment_puts_the_sprite_centre_on_its_site():
    """An asymmetric sprite lands unflipped, its middle on (row, column)."""
    sprites = np.zeros((1, 1, 3, 3, 1))
    sprites[0, 0, 0, 1] = sprites[0, 0, 1, 1] = sprites[0, 0, 1, 2] = 0.9
    labels = metrics.segment(np.array([[[2, 1]]]), np.array([[True]]), sprites, (4, 5))
    expected = [[0] * 5, [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0] * 5]
    np.testing.assert_array_equal(labels[0], expected)


def test_segment_decides_ties_for_background_and_first_slot():
    """Exactly 0.5 is not enough, and of two equal sprites the first slot wins."""
    sprites = np.zeros((1, 3, 1, 1, 1))
    sprites[0, :, 0, 0, 0] = 0.5, 0.8, 0.8
    yx = np.array([[[0, 0], [0, 1], [0, 1]]])
    labels = metrics.segment(yx, np.ones((1, 3), bool), sprites, (1, 2))
    np.testing.assert_array_equal(labels, [[[0, 2]]])


def _rand_by_pairs(a, b):
    """Hubert and Arabie's index from the definition: every pair of pixels."""
    together = np.zeros((2, 2))
    for i, j in itertools.combinations(range(len(a)), 2):
        together[int(a[i] == a[j]), int(b[i] == b[j])] += 1
    both, in_a, in_b = together[1, 1], together[1].sum(), together[:, 1].sum()
    expected = in_a * in_b / together.sum()
    return (both - expected) / ((in_a + in_b) / 2 - expected)


def test_adjusted_rand_index_equals_count_of_pairs():
    """Per image, on unequal label sets."""
    rng = np.random.default_rng(3)
    true, inferred = rng.integers(0, 3, (5, 4, 5)), rng.integers(0, 4, (5, 4, 5))
    expected = [
        _rand_by_pairs(a.ravel(), b.ravel())
        for a, b in zip(true, inferred, strict=True)
    ]
    np.testing.assert_allclose(
        metrics.adjusted_rand_index(true, inferred), expected, atol=1e-12
    )


def test_foreground_index_looks_at_true_foreground_only():
    """Equal to the pairs of foreground pixels; background errors change nothing."""
    rng = np.random.default_rng(4)
    true, inferred = rng.integers(0, 4, (5, 4, 5)), rng.integers(0, 4, (5, 4, 5))
    expected = [
        _rand_by_pairs(a[a > 0], b[a > 0]) for a, b in zip(true, inferred, strict=True)
    ]
    index = metrics.foreground_adjusted_rand_index(true, inferred)
    np.testing.assert_allclose(index, expected, atol=1e-12)
    changed = np.where(true == 0, 7, inferred)
    np.testing.assert_array_equal(
        metrics.foreground_adjusted_rand_index(true, changed), index
    )


def test_rand_indices_do_not_depend_on_the_numbering():
    """Renumbered objects are the same segmentation, and a perfect one gives 1."""
    true = np.random.default_rng(5).integers(0, 4, (3, 6, 6))
    renumbered = np.array([0, 3, 1, 2])[true]
    for index in (
        metrics.adjusted_rand_index,
        metrics.foreground_adjusted_rand_index,
    ):
        np.testing.assert_allclose(index(true, renumbered), 1.0)


def test_rand_indices_of_empty_images():
    """Two empty images agree (1); without foreground its index is undefined."""
    empty = np.zeros((1, 4, 4), int)
    one_object = np.pad(np.ones((1, 2, 2), int), ((0, 0), (1, 1), (1, 1)))
    assert metrics.adjusted_rand_index(empty, empty) == 1.0
    assert metrics.adjusted_rand_index(empty, one_object) == 0.0
    assert np.isnan(metrics.foreground_adjusted_rand_index(empty, one_object))
    assert metrics.foreground_adjusted_rand_index(one_object, one_object) == 1.0


def test_importance_bounds_equal_plain_averages():
    """Groups of K weights, against exponentials without any log-space care."""
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


def test_importance_bounds_grow_with_the_number_of_samples():
    """Jensen: for nested groups more samples never lower the averaged bound."""
    log_w = np.random.default_rng(7).normal(0, 3, (100, 50))
    one, ten, hundred = metrics.importance_bounds(log_w)
    assert (one.log_p < ten.log_p).all() and (ten.log_p < hundred.log_p).all()


def test_importance_bounds_far_from_zero():
    """Weights whose exponentials underflow keep their bound and sample size."""
    log_w = np.log(np.array([[1.0], [2.0], [5.0]])) - 20000
    (bound,) = metrics.importance_bounds(log_w, (3,))
    np.testing.assert_allclose(bound.log_p, np.log(8 / 3) - 20000)
    np.testing.assert_allclose(bound.effective_samples, 64 / 30)


def test_importance_bounds_of_zero_weights():
    """No weight at all: log p is -inf with no effective sample, without NaN."""
    (bound,) = metrics.importance_bounds(np.full((2, 1), -np.inf), (2,))
    assert bound.log_p == -np.inf and bound.effective_samples == 0.0


def test_importance_bounds_leave_out_what_there_are_no_samples_for():
    """Five weights allow K = 1 and not K = 10."""
    bounds = metrics.importance_bounds(np.zeros((5, 2)), (1, 10))
    assert [bound.num_samples for bound in bounds] == [1]


def test_components_connect_diagonally():
    """A diagonal is one object, two far strokes are two, black is none."""
    images = np.zeros((3, 5, 6, 1), np.uint8)
    images[0, range(4), range(4)] = 255
    images[1, 0, :3] = images[1, 2:, 5] = 255
    np.testing.assert_array_equal(metrics.count_components(images), [1, 2, 0])


def test_components_do_not_connect_across_images():
    """The last row of an image does not touch the first row of the next."""
    images = np.ones((4, 2, 2, 1), np.float32)
    np.testing.assert_array_equal(metrics.count_components(images), [1] * 4)


def test_components_by_colour_separate_touching_objects():
    """Red, yellow and red in a row: one lit group, three of one colour."""
    image = np.zeros((1, 3, 6, 3), np.uint8)
    image[0, :, :, 0] = 255
    image[0, :, 2:4, 1] = 255
    assert metrics.count_components(image) == [1]
    assert metrics.count_components(image, by_colour=True) == [3]
