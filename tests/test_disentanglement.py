"""What an edit changes, against loops over pixels and by hand."""

import numpy as np
import pytest
from scipy import ndimage

from lavae_jax import disentanglement

SIZE = (9, 12)


def _loops(before, after, labels, slot, old, new, side):
    """`change` of one image, pixel by pixel."""
    outside, others, own = 0.0, [], []
    height, width, _ = before.shape
    for y in range(height):
        for x in range(width):
            change = np.abs(after[y, x] - before[y, x])
            centres = (old, new)
            if all(max(abs(y - a), abs(x - b)) > side // 2 for a, b in centres):
                outside = max(outside, change.max())
            if labels[y, x] not in (0, slot + 1):
                others.append(change.mean())
            v, u = y + new[0] - old[0], x + new[1] - old[1]
            if labels[y, x] == slot + 1 and 0 <= v < height and 0 <= u < width:
                own.append(np.abs(after[v, u] - before[y, x]).mean())
    return outside, *(np.mean(x) if x else np.nan for x in (others, own))


@pytest.mark.parametrize("moved", [True, False])
def test_change_against_loops(moved):
    """Every image on its own; windows are cut at the border, colours averaged."""
    rng = np.random.default_rng(int(moved))
    before, after = rng.uniform(size=(2, 6, *SIZE, 2))
    labels = rng.integers(0, 4, (6, *SIZE))
    labels[4] = np.minimum(labels[4], 1)  # the first object alone
    slot = np.array([0, 1, 2, 0, 0, 2])
    labels[5][labels[5] == 3] = 0  # the edited object has no pixel
    old = rng.integers(0, SIZE, (6, 2))
    new = rng.integers(0, SIZE, (6, 2)) if moved else old
    found = disentanglement.change(before, after, labels, slot, old, new, side=5)
    expected = [
        _loops(before[i], after[i], labels[i], slot[i], old[i], new[i], 5)
        for i in range(6)
    ]
    np.testing.assert_allclose(np.transpose(found), expected)
    assert np.isnan(found.others[4]) and np.isnan(found.own[5])


def test_a_perfect_move_changes_nothing_else():
    """Zero outside, zero on the others, zero on the object where it has gone."""
    labels = np.zeros((1, *SIZE), int)
    labels[0, 1:3, 1:4], labels[0, 6:8, 8:11] = 1, 2
    before = np.array([[0.0, 0.0], [1.0, 0.5], [0.0, 1.0]])[labels]
    after = np.zeros_like(before)
    after[0, 6:8, 8:11] = before[0, 6:8, 8:11]
    after[0, 5:7, 2:5] = before[0, 1:3, 1:4]
    old, new = np.array([[2, 2]]), np.array([[6, 3]])
    found = disentanglement.change(before, after, labels, np.array([0]), old, new, 3)
    assert found == ([0], [0], [0])
    after[0, 0, 11] = 0.25
    found = disentanglement.change(before, after, labels, np.array([0]), old, new, 3)
    assert found == ([0.25], [0], [0])


@pytest.mark.parametrize("gap", [0, 1])
def test_free_sites_against_trying_all(gap):
    """An object of an asymmetric shape, off the centre of its window."""
    labels = np.zeros(SIZE, int)
    labels[3, 4:7] = labels[4, 6] = 2
    labels[0, 0:5] = labels[7, 9] = 1
    yx = np.array([4, 5])
    expected = []
    for y, x in np.ndindex(SIZE):
        there = np.argwhere(labels == 2) - yx + (y, x)
        inside = ((there >= 0) & (there < SIZE)).all()
        (top, left), (bottom, right) = there.min(axis=0), there.max(axis=0)
        box = [
            labels[v, u]
            for v in range(top - gap, bottom + gap + 1)
            for u in range(left - gap, right + gap + 1)
            if 0 <= v < SIZE[0] and 0 <= u < SIZE[1]
        ]
        if inside and 1 not in box:
            expected.append([y, x])
    found = disentanglement.free_sites(labels, 1, yx, gap)
    assert found.tolist() == expected
    assert [4, 5] in expected and 20 < len(expected) < 75


def test_an_object_without_pixels_can_go_anywhere():
    """There is nothing to touch or to cut."""
    labels = np.ones(SIZE, int)
    assert len(disentanglement.free_sites(labels, 3, np.array([0, 0]))) == 108
    # And one that fills its image can only stay.
    assert disentanglement.free_sites(labels, 0, np.array([2, 7])).tolist() == [[2, 7]]


def test_windows_are_squares_around_their_centres():
    """As a dilation of the centre by a square, cut at the border."""
    yx = np.array([[0, 11], [4, 5]])
    found = disentanglement.window(yx, 5, SIZE)
    for mask, (y, x) in zip(found, yx, strict=True):
        point = np.zeros(SIZE, bool)
        point[y, x] = True
        np.testing.assert_array_equal(
            mask, ndimage.binary_dilation(point, np.ones((5, 5)))
        )


def test_divergence_of_a_learned_prior():
    """Zero for the frequencies themselves; what never occurs costs nothing itself."""
    frequencies = np.array([0.5, 0.25, 0.25, 0])
    with np.errstate(divide="ignore"):
        assert disentanglement.count_divergence(frequencies, np.log(frequencies)) == 0
    p = np.array([0.4, 0.3, 0.2, 0.1])
    expected = 0.5 * np.log(5 / 4) + 0.25 * np.log(5 / 6) + 0.25 * np.log(5 / 4)
    found = disentanglement.count_divergence(frequencies, np.log(p))
    assert found == pytest.approx(expected) and expected > 0
