"""Close splits show pairs at every distance, with at least half of each visible."""

import numpy as np
import pytest
from scipy import stats

from datasets import floors, placing, scenes
from datasets.multi_dsprites import scene as dsprites
from datasets.multi_mnist import digits
from datasets.multi_mnist import scene as mnist

SPLIT = scenes.Split(400, (2,), stream=77, distances=scenes.CLOSE)


def _digits():
    """Makes thin frames of many sizes, which take the place of MNIST's digits."""
    masks = np.zeros((50, digits.SIDE, digits.SIDE), bool)
    ends = np.random.default_rng(0).integers(8, 15, (50, 2))
    for mask, (bottom, right) in zip(masks, ends, strict=True):
        mask[1:bottom, 2:right] = True
        mask[3 : bottom - 2, 4 : right - 2] = False
    numbers = np.arange(50)
    return digits.Digits(masks, numbers % 10, numbers, numbers)


@pytest.fixture(scope="module", name="pairs", params=["dsprites", "digits"])
def _pairs(request):
    """Makes 400 close scenes, of no split of a data set."""
    indices = range(SPLIT.num_examples)
    if request.param == "dsprites":
        return dsprites.make_scenes(SPLIT, indices)
    return mnist.make_scenes(_digits(), (mnist.SEED, 50), SPLIT, indices)


def test_the_truth_of_close_pairs(pairs):
    """Labels are those of the upper object, and half of the lower one is visible."""
    overlapping = 0
    for scene in pairs:
        assert scene["n"] == 2
        labels = scene["segmentation"]
        lit = scene["image"].any(axis=-1)
        np.testing.assert_array_equal(labels > 0, lit)
        for slot, (top, left, bottom, right) in enumerate(scene["box"][:2]):
            rows, columns = np.nonzero(labels == slot + 1)
            assert top <= rows.min() and rows.max() < bottom
            assert left <= columns.min() and columns.max() < right
            assert min(top, left) >= 0 and max(bottom, right) <= 64
            if slot == 1:  # nothing hides it
                box = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
                assert box == (top, left, bottom, right)
        first, second = scene["box"][:2]
        overlapping += (
            np.maximum(first, second)[:2] < np.minimum(first, second)[2:]
        ).all()
    assert overlapping > 100


def test_distances_are_uniform(pairs):
    """Every distance is equally frequent, to what centres of boxes differ."""
    distances = [
        np.hypot(*(scene["centre"][0] - scene["centre"][1])) for scene in pairs
    ]
    middle = np.mean(scenes.CLOSE)
    assert abs(np.mean(distances) - middle) < 1
    lower = np.array(distances) < middle
    assert stats.binomtest(int(lower.sum()), len(lower)).pvalue > 1e-3


def test_half_of_the_lower_object_is_visible():
    """A pair is refused exactly where more than half of the first mask is covered."""
    rng = np.random.default_rng(0)
    draws, outcomes = scenes.Draws(5), []
    for _ in range(300):
        masks = [rng.uniform(size=(7, 9)) < 0.9, rng.uniform(size=(8, 6)) < 0.9]
        corners = placing.place_close(draws, masks, 3, canvas=20)
        outcomes.append(corners is not None)
        if corners is None:
            continue
        canvases = np.zeros((2, 20, 20), bool)
        for canvas, mask, (row, column) in zip(canvases, masks, corners, strict=True):
            canvas[row : row + mask.shape[0], column : column + mask.shape[1]] = mask
        assert (canvases[0] & canvases[1]).sum() <= canvases[0].sum() / 2
        centres = corners + [(m.shape[0] / 2, m.shape[1] / 2) for m in masks]
        assert abs(np.hypot(*(centres[0] - centres[1])) - 3) <= 0.5 + np.sqrt(0.5)
    assert 0.2 < np.mean(outcomes) < 1


def test_close_splits_have_no_floor():
    """Objects that hide each other have no product of single entropies."""
    with pytest.raises(floors.NoFloorError):
        floors.floor("multi_dsprites", "test_close")
