"""Sprites are placed by the documented law, and the ground truth matches the image."""

import collections

import numpy as np
import pytest
from scipy import stats

from datasets import placing, scenes
from tests.scene_checks import sequential_law


@pytest.mark.parametrize(
    ("sizes", "canvas"), [([(2, 3), (1, 2)], 4), ([(2, 2), (2, 2), (2, 2)], 4)]
)
def test_placements_follow_the_documented_law(sizes, canvas):
    """Frequencies match enumeration, also where some tries have to start again."""
    law = sequential_law(sizes, canvas)
    placements = [
        placing.place(scenes.Draws(3, index), sizes, canvas) for index in range(6000)
    ]
    found = collections.Counter(
        tuple(map(tuple, placement.corners.tolist())) for placement in placements
    )
    assert found.keys() <= law.keys()
    observed = [found[placed] for placed in law]
    expected = [6000 * probability for probability in law.values()]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_a_scene_that_cannot_be_completed_starts_again_with_all_boxes():
    """Crowded canvases need several tries, and none of the boxes is dropped."""
    placements = [
        placing.place(scenes.Draws(5, index), [(19, 19)] * 7) for index in range(20)
    ]
    assert all(placement.corners.shape == (7, 2) for placement in placements)
    assert sum(placement.tries > 1 for placement in placements) > 10


def test_boxes_that_cannot_fit_are_refused():
    """The error names the boxes and the canvas."""
    with pytest.raises(ValueError, match=r"2 boxes .*3x3 canvas"):
        placing.place(scenes.Draws(0), [(2, 2), (2, 2)], canvas=3)


def test_draws_are_pinned():
    """The stream of a key is the same on every machine and with every NumPy."""
    draws = scenes.Draws(1, 2, 3)
    assert [draws.below(1000) for _ in range(6)] == [719, 12, 99, 887, 464, 605]
    assert scenes.permutation(8, 1, 2).tolist() == [7, 1, 3, 0, 4, 2, 6, 5]


def test_draws_are_uniform():
    """Every integer below the bound is equally frequent, over keys and within one."""
    draws = scenes.Draws(11)
    within = np.bincount([draws.below(7) for _ in range(7000)], minlength=7)
    over = np.bincount([scenes.Draws(11, i).below(7) for i in range(7000)], minlength=7)
    assert len(within) == len(over) == 7
    assert stats.chisquare(within).pvalue > 1e-3
    assert stats.chisquare(over).pvalue > 1e-3


def test_ground_truth_matches_the_image():
    """Boxes and centres fit the objects, and the map has the object of each pixel."""
    corner_shape = np.array([[1, 0, 0, 0], [1, 1, 0, 0]], bool)
    bar = np.array([[0, 1, 1, 1]], bool)
    layout = scenes.Layout(
        masks=[corner_shape, bar],
        corners=np.array([[5, 7], [60, 2]]),
        colours=np.array([[255, 0, 0], [0, 255, 255]], np.uint8),
    )
    picture = scenes.Picture(*(field[0] for field in scenes.draw_all([layout])))
    segmentation = np.zeros((64, 64), np.uint8)
    segmentation[[5, 6, 6], [7, 7, 8]] = 1
    segmentation[60, 3:6] = 2
    np.testing.assert_array_equal(picture.segmentation, segmentation)
    np.testing.assert_array_equal(
        picture.image,
        np.array([[0, 0, 0], [255, 0, 0], [0, 255, 255]], np.uint8)[segmentation],
    )
    assert picture.box[:3].tolist() == [[5, 7, 7, 9], [60, 3, 61, 6], [-1] * 4]
    assert picture.centre[:3].tolist() == [[5.5, 7.5], [60, 4], [-1, -1]]


def test_scenes_drawn_together_are_those_drawn_alone():
    """Scenes drawn together equal those drawn alone, even if some or all are empty."""
    bar = np.ones((1, 3), bool)
    layouts = [
        scenes.Layout([bar] * n, np.array([[9, 2], [60, 61], [0, 0]])[:n], colours[:n])
        for n, colours in ((0, np.zeros((0, 1), np.uint8)), (3, np.full((3, 1), 255)))
        for _ in range(2)
    ]
    for together in (layouts, layouts[:2]):
        pictures = scenes.draw_all(together)
        for index, layout in enumerate(together):
            alone = scenes.draw_all([layout])
            for field, one in zip(pictures, alone, strict=True):
                np.testing.assert_array_equal(field[index], one[0])
