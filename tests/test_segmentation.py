"""Segmentations equal loops and hand-computed cases, and keep their invariances."""

import itertools

import numpy as np

from lavae_jax import segmentation


def _segment_by_pixel(yx, active, masks, size):
    """Segments by the definition, one pixel at a time."""
    half = masks.shape[2] // 2
    labels = np.zeros((len(yx), *size), int)
    for b, row, column in np.ndindex(labels.shape):
        strongest = 0.5
        for i in np.flatnonzero(active[b]):
            u, v = row - yx[b, i, 0] + half, column - yx[b, i, 1] + half
            inside = 0 <= u < masks.shape[2] and 0 <= v < masks.shape[3]
            if inside and masks[b, i, u, v] > strongest:
                strongest, labels[b, row, column] = masks[b, i, u, v], i + 1
    return labels


def test_segment_equals_loop_over_pixels():
    """Labels equal a loop's for overlaps, cut masks, unequal sides, unused slots."""
    rng = np.random.default_rng(2)
    masks = rng.uniform(0, 1, (4, 3, 5, 5)).astype(np.float32)
    yx = np.stack([rng.integers(0, 9, (4, 3)), rng.integers(0, 7, (4, 3))], -1)
    yx[0, 0], yx[0, 1] = (0, 0), (8, 6)
    active = rng.uniform(size=(4, 3)) < 0.7
    labels = segmentation.segment(yx, active, masks, (9, 7))
    assert labels.shape == (4, 9, 7)
    expected = _segment_by_pixel(yx, active, masks, (9, 7))
    np.testing.assert_array_equal(labels, expected)
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_segment_decides_ties_for_background_and_first_slot():
    """Exactly 0.5 is not enough, and of two equal masks the first slot wins."""
    masks = np.zeros((1, 3, 1, 1))
    masks[0, :, 0, 0] = 0.5, 0.8, 0.8
    yx = np.array([[[0, 0], [0, 1], [0, 1]]])
    labels = segmentation.segment(yx, np.ones((1, 3), bool), masks, (1, 2))
    np.testing.assert_array_equal(labels, [[[0, 2]]])


def _rand_by_pairs(a, b):
    """Returns Hubert and Arabie's index by its definition, from all pairs of pixels."""
    together = np.zeros((2, 2))
    for i, j in itertools.combinations(range(len(a)), 2):
        together[int(a[i] == a[j]), int(b[i] == b[j])] += 1
    both, in_a, in_b = together[1, 1], together[1].sum(), together[:, 1].sum()
    expected = in_a * in_b / together.sum()
    return (both - expected) / ((in_a + in_b) / 2 - expected)


def test_adjusted_rand_index_equals_count_of_pairs():
    """The index of each image equals that of its pairs, also for unequal label sets."""
    rng = np.random.default_rng(3)
    true, inferred = rng.integers(0, 3, (5, 4, 5)), rng.integers(0, 4, (5, 4, 5))
    expected = [
        _rand_by_pairs(a.ravel(), b.ravel())
        for a, b in zip(true, inferred, strict=True)
    ]
    np.testing.assert_allclose(
        segmentation.adjusted_rand_index(true, inferred), expected, atol=1e-12
    )


def test_foreground_index_looks_at_true_foreground_only():
    """The index equals that of foreground pairs; background errors change nothing."""
    rng = np.random.default_rng(4)
    true, inferred = rng.integers(0, 4, (5, 4, 5)), rng.integers(0, 4, (5, 4, 5))
    expected = [
        _rand_by_pairs(a[a > 0], b[a > 0]) for a, b in zip(true, inferred, strict=True)
    ]
    index = segmentation.foreground_adjusted_rand_index(true, inferred)
    np.testing.assert_allclose(index, expected, atol=1e-12)
    changed = np.where(true == 0, 7, inferred)
    np.testing.assert_array_equal(
        segmentation.foreground_adjusted_rand_index(true, changed), index
    )


def test_rand_indices_of_empty_images():
    """Two empty images agree (1); without foreground the foreground index is NaN."""
    empty = np.zeros((1, 4, 4), int)
    one_object = np.pad(np.ones((1, 2, 2), int), ((0, 0), (1, 1), (1, 1)))
    assert segmentation.adjusted_rand_index(empty, empty) == 1.0
    assert segmentation.adjusted_rand_index(empty, one_object) == 0.0
    assert np.isnan(segmentation.foreground_adjusted_rand_index(empty, one_object))
    assert segmentation.foreground_adjusted_rand_index(one_object, one_object) == 1.0


def test_components_connect_diagonally():
    """A diagonal is one object, two far strokes are two, black is none."""
    images = np.zeros((3, 5, 6, 1), np.uint8)
    images[0, range(4), range(4)] = 255
    images[1, 0, :3] = images[1, 2:, 5] = 255
    np.testing.assert_array_equal(segmentation.count_components(images), [1, 2, 0])


def test_components_by_colour_separate_touching_objects():
    """Red, yellow and red in a row are one lit group, and three groups by colour."""
    image = np.zeros((1, 3, 6, 3), np.uint8)
    image[0, :, :, 0] = 255
    image[0, :, 2:4, 1] = 255
    assert segmentation.count_components(image) == [1]
    assert segmentation.count_components(image, by_colour=True) == [3]
