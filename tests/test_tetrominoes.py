"""Tetrominoes have the documented pieces and scenes, and their content is pinned."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage, stats

from datasets import load, scenes
from datasets.tetrominoes import pieces
from datasets.tetrominoes.scene import make_scenes

SPLIT = scenes.Split(400, (3,), stream=90)


@pytest.fixture(scope="module", name="made")
def _made():
    """Makes scenes of no split of the data set."""
    return make_scenes(SPLIT, range(SPLIT.num_examples))


def test_there_are_19_pieces():
    """Each is four blocks of 5×5 pixels that hang together, and no two are equal."""
    masks = pieces.masks()
    assert len(masks) == 19 == len({(m.shape, m.tobytes()) for m in masks})
    for mask in masks:
        rows, columns = (side // 5 for side in mask.shape)
        blocks = mask.reshape(rows, 5, columns, 5)
        filled = blocks.all((1, 3))
        np.testing.assert_array_equal(filled, blocks.any((1, 3)))
        assert filled.sum() == 4 and ndimage.label(filled)[1] == 1


def test_the_truth_of_scenes(made):
    """Pixels have the colour of the only piece there; some pieces touch."""
    touching = 0
    for scene in made:
        assert scene["n"] == 3 and (scene["piece"][3:] == scenes.EMPTY).all()
        image, labels = np.zeros((35, 35, 3), np.uint8), np.zeros((35, 35), int)
        for slot in range(3):
            top, left, bottom, right = scene["box"][slot]
            place = slice(top, bottom), slice(left, right)
            mask = pieces.masks()[scene["piece"][slot]]
            assert not labels[place][mask].any()
            image[place][mask] = pieces.RGB[scene["colour"][slot]]
            labels[place][mask] = slot + 1
        np.testing.assert_array_equal(scene["image"], image)
        np.testing.assert_array_equal(scene["segmentation"], labels)
        touching += ndimage.label(labels, np.ones((3, 3)))[1] < 3
    assert 0 < touching < len(made)


def test_pieces_and_colours_are_uniform(made):
    """All pieces and colours are as frequent; the canvas is used up to its border."""
    for name, number in (("piece", 19), ("colour", 6)):
        values = np.concatenate([scene[name][:3] for scene in made])
        assert stats.chisquare(np.bincount(values, minlength=number)).pvalue > 1e-3
    lit = np.mean([scene["segmentation"] > 0 for scene in made], axis=0)
    assert lit.shape == (35, 35) and lit.min() > 0


def test_splits_of_the_data_set(tmp_path):
    """The splits have the documented sizes, and always the same scenes."""
    splits = load.splits("tetrominoes/full")
    sizes = {name: split.num_examples for name, split in splits.items()}
    assert sizes == {"train": 60_000, "test": 10_000, "validation": 10_000}
    assert load.image_shape("tetrominoes/full") == (35, 35, 3)
    digests = {}
    for name in splits:
        source = load.data_source("tetrominoes/tiny", name, tmp_path)
        assert len(source) == 256
        first = np.stack([source[index]["image"] for index in range(64)])
        made = make_scenes(splits[name], range(64))
        np.testing.assert_array_equal(first, [scene["image"] for scene in made])
        digests[name] = hashlib.sha256(first.tobytes()).hexdigest()[:16]
    assert digests == {
        "train": "a442fab52f92be05",
        "test": "9ea8bdafcb05f749",
        "validation": "f3ee9e129fc71d59",
    }
