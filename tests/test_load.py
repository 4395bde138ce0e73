"""Data sets load by name and slice; wrong names and damage end in clear errors."""

import json
import os
import shutil

import numpy as np
import pytest

from datasets import load, scenes
from tests import scene_checks
from tests.commands import printed, run_python

NAME = "multi_dsprites/tiny"

KILLED_IN_THE_SECOND_SPLIT = """
import os, sys
from datasets import load, scenes
draw, calls = scenes.draw_all, []
def die_at_the_second(*arguments):
    calls.append(arguments)
    return draw(*arguments) if len(calls) < 2 else os._exit(9)
scenes.draw_all = die_at_the_second
load.builder("multi_dsprites/tiny", sys.argv[1])
"""


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("multi_mnist", "test", "multi_mnist/1k, multi_mnist/10k"),
        (NAME, "valid", "'valid'.*train, test, test_7, validation_7"),
        (NAME, "train[", "train"),
    ],
)
def test_unknown_names_are_refused_first(tmp_path, name, split, message):
    """Unknown names raise errors that list the valid ones, and generate nothing."""
    for read in (load.data_source, load.images, load.object_counts):
        with pytest.raises(ValueError, match=message):
            read(name, split, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("split", "positions"),
    [
        ("train[200:]", range(200, 256)),
        ("train[10:20]+train[30:40]", [*range(10, 20), *range(30, 40)]),
        ("train[:25%]", range(64)),
    ],
)
def test_slices_are_those_of_the_split(data_dir, split, positions):
    """A slice has the split's examples in their order, and so have its images alone."""
    whole = load.data_source(NAME, "train", data_dir)
    part = load.data_source(NAME, split, data_dir)
    images = load.images(NAME, split, data_dir)
    assert len(part) == len(images) == len(positions)
    for index, position in enumerate(positions):
        np.testing.assert_equal(part[index], whole[position])
        np.testing.assert_array_equal(images[index], whole[position]["image"])


def test_counts_are_those_of_the_examples(data_dir):
    """`object_counts` gives the counts of a slice's examples in their order."""
    part = load.data_source(NAME, "train[10:50]", data_dir)
    expected = [int(part[index]["n"]) for index in range(len(part))]
    assert len(set(expected)) > 2
    counts = load.object_counts(NAME, "train[10:50]", data_dir)
    assert counts.dtype == np.int64 and counts.tolist() == expected


def test_damage_is_told(data_dir, tmp_path):
    """The error names an outdated or damaged description and says to delete it."""
    copy = shutil.copytree(data_dir, tmp_path / "data")
    (path,) = copy.rglob("dataset_info.json")
    content = json.loads(path.read_text())
    content["splits"] = [s for s in content["splits"] if s["name"] != "validation_7"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="validation_7"):
        load.images(NAME, "validation_7", copy)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"dataset_info\.json"):
        load.images(NAME, "train", copy)


def test_scenes_beyond_the_splits(data_dir, tmp_path):
    """The maker makes the scenes of the splits, and others with any number of objects.

    No data set is generated for it.
    """
    scene = load.scene_maker(NAME, tmp_path)
    wanted = load.builder(NAME, data_dir).splits["test"]
    np.testing.assert_equal(
        scene(wanted, 5), load.data_source(NAME, "test", data_dir)[5]
    )
    for n in range(scenes.MAX_OBJECTS + 1):
        example = scene(scenes.extra_split(n, seed=3), 1)
        scene_checks.check_ground_truth(example, {n})
        scene_checks.check_boxes_are_apart(example["box"][:n])
    images = [
        scene(scenes.extra_split(7, seed), index)["image"].tobytes()
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(images)) == 4
    assert not list(tmp_path.iterdir())


def test_splits_share_no_scene():
    """The streams of a data set's splits and of scenes beyond them all differ."""
    extra = [scenes.extra_split(n, seed) for n in range(11) for seed in range(20)]
    for builder, config in load.BUILDERS.values():
        own = builder(config=config).splits.values()
        streams = {split.stream for split in (*own, *extra)}
        assert len(streams) == len(own) + 220
    for n, seed in ((11, 0), (-1, 0), (3, -1)):
        with pytest.raises(ValueError, match=f"0 to 10 .* {n}"):
            scenes.extra_split(n, seed)


def test_a_killed_generation_is_begun_again(tmp_path):
    """Nothing that a killed process leaves is taken for a data set.

    The command then fills the folder without JAX and TensorFlow, and prints its path.
    """
    killed = run_python("-c", KILLED_IN_THE_SECOND_SPLIT, tmp_path)
    assert killed.returncode == 9, killed.stderr
    assert list(tmp_path.rglob("incomplete*"))
    script = (
        "import runpy, sys\n"
        f"sys.argv[1:] = ['--name={NAME}', '--data_dir={tmp_path}']\n"
        "try:\n"
        "    runpy.run_module('datasets.generate', run_name='__main__')\n"
        "finally:\n"
        "    assert not {'jax', 'tensorflow'} & set(sys.modules)\n"
    )
    folder = tmp_path / "multi_dsprites" / "tiny" / "1.0.0"
    assert f"{folder}: train 256, test 256" in printed(script)
    assert len(load.images(NAME, "test", tmp_path)) == 256
