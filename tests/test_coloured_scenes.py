"""Coloured scenes have any colours, grey backgrounds, and objects that hide others."""

import numpy as np
import pytest
from scipy import stats

from datasets import floors, placing, scenes
from datasets.multi_dsprites import scene as dsprites
from datasets.multi_dsprites import sprites

SPLIT = scenes.Split(300, tuple(range(6)), stream=78)


@pytest.fixture(scope="module", name="made")
def _made():
    """Makes 300 scenes without noise, of no split of a data set."""
    return dsprites.make_coloured_scenes(SPLIT, range(SPLIT.num_examples), noise=0.0)


def _mask(scene, slot):
    """Returns the whole mask of an object, [64, 64] bool, by its attributes."""
    attributes = [scene[name][slot] for name in ("shape", "scale", "angle")]
    for sprite in sprites.all_sprites(sprites.RADIUS):
        own = (sprite.shape, sprites.SCALES[sprite.scale], sprites.ANGLES[sprite.angle])
        if np.allclose(own, attributes):
            break
    top, left, bottom, right = scene["box"][slot]
    whole = np.zeros((64, 64), bool)
    whole[top:bottom, left:right] = scenes.crop(sprite.mask)
    return whole


def test_the_truth_of_scenes(made):
    """Pixels have the colour of the last object there, or else of the background."""
    hidden = 0
    for scene in made[:100]:
        image = np.full((64, 64, 3), scene["background"], np.uint8)
        labels = np.zeros((64, 64), int)
        for slot in range(scene["n"]):
            mask = _mask(scene, slot)
            image[mask], labels[mask] = scene["rgb"][slot], slot + 1
        np.testing.assert_array_equal(scene["image"], image)
        np.testing.assert_array_equal(scene["segmentation"], labels)
        for slot in range(scene["n"]):
            mask = _mask(scene, slot)
            share = (labels[mask] == slot + 1).mean()
            assert share >= 0.5
            hidden += share < 1
        assert (scene["rgb"][scene["n"] :] == scenes.EMPTY).all()
    assert hidden > 10


def test_numbers_and_colours_are_uniform(made):
    """The number of objects, the background and every colour have all their values."""
    n = np.bincount([scene["n"] for scene in made], minlength=6)
    assert stats.chisquare(n).pvalue > 1e-3
    rgb = np.concatenate([scene["rgb"][: scene["n"]] for scene in made])
    for values in (*rgb.T, np.array([scene["background"] for scene in made])):
        assert stats.kstest((values + 0.5) / 256, "uniform").pvalue > 1e-3


def test_noise_has_its_moments():
    """Noise is normal, of every pixel and channel by itself, and the same again."""
    noise = scenes.Draws(3).gaussian((20, 50, 40))
    np.testing.assert_array_equal(noise, scenes.Draws(3).gaussian((20, 50, 40)))
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.01
    assert abs(stats.kurtosis(noise.ravel()) + 0.1) < 0.05  # −6/5 of a uniform / 12
    for axis in range(3):
        one, other = np.delete(noise, 0, axis), np.delete(noise, -1, axis)
        assert abs((one * other).mean()) < 0.02


def test_noisy_scenes_are_the_same_scenes(made):
    """Noise changes pixels alone, by its standard deviation where nothing is cut."""
    noisy = dsprites.make_coloured_scenes(SPLIT, range(40), noise=12.0)
    for clean, other in zip(made, noisy, strict=False):
        for name in clean.keys() - {"image"}:
            np.testing.assert_array_equal(clean[name], other[name])
    images = np.stack([[one["image"] for one in some] for some in (made[:40], noisy)])
    clean, other = images.astype(float)
    middle = (clean > 60) & (clean < 195)
    assert (other - clean)[middle].std() == pytest.approx(12, rel=0.01)


def test_objects_that_do_not_fit_are_told():
    """Objects that would always hide each other are refused in one line."""
    masks = [np.ones((4, 4), bool)] * 3
    with pytest.raises(ValueError, match="3 objects, each hidden by at most 50%"):
        placing.place_freely(scenes.Draws(0), masks, canvas=4)


def test_coloured_scenes_have_no_floor(tmp_path):
    """Objects that hide each other have no product of single entropies."""
    with pytest.raises(floors.NoFloorError):
        floors.floor("multi_dsprites/coloured_tiny", "test", tmp_path)
