"""Floors equal enumeration on tiny canvases, and known values of data sets."""

import collections
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from datasets import floors
from datasets.multi_dsprites import multi_dsprites_dataset_builder as builder
from datasets.scene_builder import Appearance, entropy
from tests.scene_checks import sequential_law


def exact_entropies(counts, size):
    """Enumerates equal boxes on a 4x4 canvas.

    Returns:
        The mean over n of log |counts| + H(positions in order) - log n!, which is what
        `floors.entropy` estimates, and the entropy of the sets, which it is to bound.
    """
    estimated = bounded = math.log(len(counts))
    for n in counts:
        ordered, sets = sequential_law([size] * n, 4), collections.Counter()
        for corners, probability in ordered.items():
            sets[frozenset(corners)] += probability
        in_order = stats.entropy(list(ordered.values()))
        estimated += (in_order - math.log(math.factorial(n))) / len(counts)
        bounded += stats.entropy(list(sets.values())) / len(counts)
    return estimated, bounded


@pytest.mark.parametrize(("counts", "size"), [((0, 1, 2), (1, 2)), ((2, 3), (2, 2))])
def test_entropy_equals_enumeration(counts, size):
    """The estimate is that of the formula, which is below the entropy of the sets.

    With three boxes of 2x2 on 4x4 some tries fail, so log Z is not zero.
    """
    appearance = Appearance(entropy=0.0, sizes=np.array([size]))
    estimate = floors.entropy(counts, appearance, num_placements=4000, canvas=4)
    formula, entropy_of_sets = exact_entropies(counts, size)
    assert estimate == pytest.approx(formula, abs=0.03)
    assert formula <= entropy_of_sets + 1e-9


def test_entropy_counts_appearances():
    """Every object adds its own entropy, and the smaller box has more places."""
    sizes = np.array([[1, 1], [4, 4]])
    plain = floors.entropy((1,), Appearance(0.0, sizes), 4000, canvas=4)
    coloured = floors.entropy((1,), Appearance(1.5, sizes), 4000, canvas=4)
    assert coloured - plain == pytest.approx(1.5)
    assert plain == pytest.approx(math.log(16) / 2, abs=0.05)


def test_family_floor_equals_enumeration():
    """The floor is that of equally likely sets of n sites, as in the model's prior."""
    objects = 0.7
    expected = (
        math.log(3)
        + sum(
            math.log(len(list(itertools.combinations(range(9), n)))) + n * objects
            for n in (0, 2, 3)
        )
        / 3
    )
    assert floors.family_floor((0, 2, 3), objects, canvas=3) == pytest.approx(expected)


def test_masks_are_counted_up_to_a_shift():
    """Masks that differ by a shift are one: four have the entropy of counts 2, 1, 1."""
    masks = np.zeros((4, 5, 5), bool)
    masks[0, 1, 2:4] = masks[1, 3, 0:2] = True
    masks[2, 1:3, 2] = True
    masks[3, 1, 2] = True
    expected = 0.5 * math.log(2) + 0.5 * math.log(4)
    assert entropy(list(masks)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("split", "expected"), [("test", (24.2, 25.0)), ("test_7", (97.1, 104.5))]
)
def test_bounds_of_multi_dsprites(data_dir, split, expected):
    """Bounds are those of 7 colours and 420 masks, as squares and ellipses repeat."""
    bounds = floors.floor("multi_dsprites/tiny", split, data_dir)
    assert bounds == pytest.approx(expected, abs=0.1)


def test_appearance_of_multi_dsprites(data_dir):
    """Entropy is that of 3 shapes at 10, 20 or 40 angles, 6 scales and 7 colours."""
    appearance = builder.Builder(config="tiny", data_dir=data_dir).appearance()
    angles = (math.log(10) + math.log(20) + math.log(40)) / 3
    expected = math.log(3) + math.log(6) + angles + math.log(7)
    assert appearance.entropy == pytest.approx(expected)
    assert appearance.sizes.shape == (720, 2)
