"""multi-dSprites has the documented sprites and scenes, and its content is pinned."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from datasets import load, scenes
from datasets.multi_dsprites import multi_dsprites_dataset_builder as builder
from datasets.multi_dsprites import sprites
from tests import scene_checks

NAME = "multi_dsprites/tiny"
FEW = scenes.Split(num_examples=0, counts=(0, 1, 2, 3), stream=0)
SEVEN = scenes.Split(num_examples=0, counts=(7,), stream=2)

CHECKSUMS = {
    "train": "af1126f89842a2a4c316b5a52fd4d20f",
    "test": "96b740874cba3c2d1348f53be1c2e27c",
    "test_7": "7f3f1cff94c6b8bc9d3b1e82eca4164f",
    "validation_7": "0ec7915047ea9ea929ec7befe4814fa4",
    "test_close": "cf0bf8d14140977e356df256b99bc03b",
    "validation_close": "373db4779c2f8a16add370d0f7529c12",
}
BENCH_CHECKSUMS = {
    "train": "d445bfa725af14c0c59c021cf5162d5c",
    "test": "2e7dd47a25a4d318c42316a04be0980f",
    "test_5": "4765d19f71bc441ffb4b461e70ca0fd2",
    "validation_5": "344746d83e35e48be0f2e8a648d90a9e",
    "test_close": "b9cd08945ca45520c3628cb81fe4ddc6",
    "validation_close": "658034ff011410a34cefd8933a925a03",
}
"""The checksums are of the first 64 scenes of each split."""


def reference_mask(shape, scale, angle):
    """Returns the sprite's mask [19, 19], sampled point by point in plain Python."""
    radius = 9.48 * scale

    def vertices(first, number):
        turns = [first + angle + 2 * math.pi * k / number for k in range(number)]
        return [(radius * math.cos(turn), radius * math.sin(turn)) for turn in turns]

    def inside_polygon(x, y, corners):
        return all(
            (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0
            for (ax, ay), (bx, by) in zip(
                corners, corners[1:] + corners[:1], strict=True
            )
        )

    def inside_ellipse(x, y):
        focus = 0.8 * radius  # since 0.6^2 + 0.8^2 = 1
        fx, fy = focus * math.cos(angle), focus * math.sin(angle)
        return math.hypot(x - fx, y - fy) + math.hypot(x + fx, y + fy) < 2 * radius

    def inside(x, y):
        if shape == "square":
            return inside_polygon(x, y, vertices(math.pi / 4, 4))
        if shape == "triangle":
            return inside_polygon(x, y, vertices(math.pi / 2, 3))
        return inside_ellipse(x, y)

    mask = np.zeros((19, 19), bool)
    points = [(k + 0.5) / 8 - 0.5 for k in range(8)]
    for row in range(19):
        for column in range(19):
            hits = [inside(column - 9 + p, 9 - row - q) for p in points for q in points]
            mask[row, column] = sum(hits) >= 32
    return mask


@pytest.mark.parametrize("shape", sprites.SHAPES)
@pytest.mark.parametrize(("scale", "angle"), [(0, 3), (2, 17), (5, 0), (5, 31)])
def test_sprites_equal_a_plain_rendering(shape, scale, angle):
    """Shapes, sizes and directions of rotation are as documented."""
    index = sprites.SHAPES.index(shape)
    rendered = sprites.render(index, sprites.SCALES[scale], sprites.ANGLES[angle])
    expected = reference_mask(shape, 0.6 + 0.08 * scale, 2 * math.pi * angle / 40)
    np.testing.assert_array_equal(rendered, scenes.crop(expected))


def test_there_are_720_sprites_with_420_masks_of_at_most_19_pixels():
    """Every combination is rendered once, in the order of its attributes."""
    pool = sprites.all_sprites()
    attributes = [(s.shape, s.scale, s.angle) for s in pool]
    assert attributes == sorted(set(attributes))
    assert len(pool) == 3 * 6 * 40
    assert len({(s.mask.shape, s.mask.tobytes()) for s in pool}) == 420
    assert max(max(s.mask.shape) for s in pool) == 19
    assert all(scenes.crop(s.mask).shape == s.mask.shape for s in pool)


def test_the_benchs_sprites_are_the_same_at_half_the_size():
    """The bench's sprites have the same attributes and order, and fit in 11 pixels."""
    pool, small = sprites.all_sprites(), sprites.all_sprites(sprites.SMALL_RADIUS)
    assert [one[1:] for one in small] == [one[1:] for one in pool]
    assert max(max(one.mask.shape) for one in small) == 11
    assert len({(one.mask.shape, one.mask.tobytes()) for one in small}) == 365


@pytest.mark.parametrize("radius", [sprites.RADIUS, sprites.SMALL_RADIUS])
def test_no_rounding_error_can_change_a_sprite(radius):
    """No sampling point is so near to an outline that rounding can move it across."""
    closest = min(
        np.abs(sprites.signed_distance(shape, scale, angle, radius)).min()
        for shape in range(3)
        for scale in sprites.SCALES
        for angle in sprites.ANGLES
    )
    assert closest > 1e-6


@pytest.mark.parametrize("split", CHECKSUMS)
def test_content_of_the_splits_is_pinned(data_dir, split):
    """The version fixes every byte of the decoded content."""
    source = load.data_source(NAME, split, data_dir)
    assert len(source) == 256
    assert scene_checks.digest(source) == CHECKSUMS[split]


@pytest.mark.parametrize("split", BENCH_CHECKSUMS)
def test_scenes_of_the_bench_are_pinned(split):
    """The bench's scenes have 32x32 pixels, pinned content and their split's counts."""
    wanted = load.splits("multi_dsprites/bench")[split]
    make = load.scene_maker("multi_dsprites/bench")
    examples = [make(wanted, index) for index in range(64)]
    assert scene_checks.digest(examples) == BENCH_CHECKSUMS[split]
    for example in examples:
        assert example["image"].shape == (32, 32, 3)
        assert example["n"] in wanted.counts
        if wanted.distances:
            continue
        scene_checks.check_ground_truth(example, wanted.counts)
        scene_checks.check_boxes_are_apart(example["box"][: example["n"]])


def test_a_small_bench_is_written_and_read(tmp_path):
    """The builder writes the scenes that its maker makes, on the bench's canvas.

    The bench itself differs only in its numbers of scenes.
    """
    (bench,) = (one for one in builder.Builder.BUILDER_CONFIGS if one.name == "bench")
    few = dataclasses.replace(bench, name="few", num_train=5, num_test=3)
    made = builder.Builder(config=few, data_dir=tmp_path, file_format="array_record")
    made.download_and_prepare(file_format="array_record")
    for split, wanted in made.splits.items():
        source = made.as_data_source(split)
        expected = made.maker()(wanted, range(wanted.num_examples))
        found = [source[index] for index in range(len(source))]
        assert scene_checks.digest(found) == scene_checks.digest(expected)


@pytest.mark.parametrize(
    ("split", "counts"),
    [("train", FEW), ("test", FEW), ("test_7", SEVEN), ("validation_7", SEVEN)],
)
def test_ground_truth_is_consistent(data_dir, split, counts):
    """Image, map, boxes, centres and attributes agree, and the boxes are apart."""
    for example in load.data_source(NAME, split, data_dir):
        scene_checks.check_ground_truth(example, counts.counts)
        boxes = example["box"][: example["n"]]
        scene_checks.check_boxes_are_apart(boxes)
        for slot, (top, left, bottom, right) in enumerate(boxes):
            mask = sprites.render(
                example["shape"][slot],
                float(example["scale"][slot]),
                float(example["angle"][slot]),
            )
            seen = example["segmentation"][top:bottom, left:right] == slot + 1
            np.testing.assert_array_equal(seen, mask)
            colour = example["image"][top:bottom, left:right][mask][0]
            np.testing.assert_array_equal(colour, sprites.RGB[example["colour"][slot]])


def test_tiny_is_the_beginning_of_full(data_dir):
    """Scenes do not depend on the size of their split."""
    source = load.data_source(NAME, "test_7", data_dir)
    full = builder.Builder(config="full", data_dir=data_dir).splits["test_7"]
    assert full.num_examples == 10_000
    examples = builder.make_scenes(full, range(256))
    assert scene_checks.digest(source) == scene_checks.digest(examples)


def test_the_number_of_objects_is_uniform():
    """Zero to three objects are equally frequent."""
    counts = np.bincount([one["n"] for one in builder.make_scenes(FEW, range(4000))])
    assert len(counts) == 4
    assert stats.chisquare(counts).pvalue > 1e-3


def test_attributes_are_uniform_in_crowded_scenes():
    """Starting a scene again favours neither small sprites nor any others."""
    crowded = builder.make_scenes(SEVEN, range(600))
    for feature, number in (("shape", 3), ("scale", 6), ("angle", 40), ("colour", 7)):
        values = np.concatenate([scene[feature][:7] for scene in crowded])
        _, counts = np.unique(values, return_counts=True)
        assert len(counts) == number
        assert stats.chisquare(counts).pvalue > 1e-3, feature
