"""Reading by name: errors before any work, slices, interruptions, two processes."""

import json
import multiprocessing
import os
import pickle
import shutil
from concurrent import futures

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
def die_at_the_second(layouts):
    calls.append(layouts)
    return draw(layouts) if len(calls) < 2 else os._exit(9)
scenes.draw_all = die_at_the_second
load.builder("multi_dsprites/tiny", sys.argv[1])
"""

READS_WITHOUT_JAX = """
import sys
from datasets import floors, generate, load
load.data_source("multi_dsprites/tiny", "test", sys.argv[1])[0]
load.images("multi_dsprites/tiny", "test", sys.argv[1])[0]
loaded = {"jax", "tensorflow"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize("read", [load.data_source, load.images, load.object_counts])
@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("multi_mnist", "test", "multi_mnist/1k, multi_mnist/10k"),
        ("dsprites", "test", "'dsprites'.*multi_dsprites, "),
        (NAME, "valid", "'valid'.*train, test, test_7, validation_7"),
        (NAME, "test_new_digits", "train, test, test_7"),
        (NAME, "train[", "train"),
        (NAME, "train[:1000]+eval", "eval"),
        (NAME, "", "train, test, test_7"),
    ],
)
def test_unknown_names_are_refused_first(tmp_path, read, name, split, message):
    """Errors list what is valid, and nothing is generated."""
    with pytest.raises(ValueError, match=message):
        read(name, split, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("split", "positions"),
    [
        ("train", range(256)),
        ("train[:200]", range(200)),
        ("train[200:]", range(200, 256)),
        ("train[-5:]", range(251, 256)),
        ("train[10:20]+train[30:40]", [*range(10, 20), *range(30, 40)]),
        ("train[:25%]", range(64)),
    ],
)
def test_slices_are_those_of_the_split(data_dir, split, positions):
    """Parts of a split hold its examples in their order, whole or images only."""
    whole = load.data_source(NAME, "train", data_dir)
    part = load.data_source(NAME, split, data_dir)
    images = load.images(NAME, split, data_dir)
    assert len(part) == len(images) == len(positions)
    for index, position in enumerate(positions):
        np.testing.assert_equal(part[index], whole[position])
        np.testing.assert_array_equal(images[index], whole[position]["image"])


def test_counts_are_those_of_the_examples(data_dir, monkeypatch):
    """All of a slice, in its order, however many are read at a time."""
    part = load.data_source(NAME, "train[10:50]", data_dir)
    expected = [int(part[index]["n"]) for index in range(len(part))]
    assert len(set(expected)) > 2
    for at_a_time in (7, 40, 5_000):
        monkeypatch.setattr(load, "_AT_A_TIME", at_a_time)
        counts = load.object_counts(NAME, "train[10:50]", data_dir)
        assert counts.dtype == np.int64 and counts.tolist() == expected


def test_damage_is_told(data_dir, tmp_path):
    """A damaged file or description is named, with the way out."""
    copy = shutil.copytree(data_dir, tmp_path / "data")
    (path,) = copy.rglob("*-test.array_record*")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"tiny/.* is missing or damaged: .* Delete"):
        load.object_counts(NAME, "test", copy)
    (path,) = copy.rglob("dataset_info.json")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(
        ValueError, match=r"dataset_info.json of .* is damaged: .* Dele"
    ):
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
    """Streams differ within a data set, and from those of scenes beyond it."""
    extra = [scenes.extra_split(n, seed) for n in range(11) for seed in range(20)]
    for builder, config in load.BUILDERS.values():
        own = builder(config=config).splits.values()
        streams = {split.stream for split in (*own, *extra)}
        assert len(streams) == len(own) + 220
    for n, seed in ((11, 0), (-1, 0), (3, -1)):
        with pytest.raises(ValueError, match=f"0 to 10 .* not negative: got {n}"):
            scenes.extra_split(n, seed)


def test_a_data_set_without_a_newer_split(data_dir, tmp_path):
    """One that was generated before the split existed is read; the split is refused."""
    copy = shutil.copytree(data_dir, tmp_path / "data")
    (path,) = copy.rglob("dataset_info.json")
    description = json.loads(path.read_text())
    kept = [one for one in description["splits"] if one["name"] != "validation_7"]
    assert len(kept) == 3
    path.write_text(json.dumps({**description, "splits": kept}))
    assert len(load.images(NAME, "test_7", copy)) == 256
    for read in (load.data_source, load.images, load.object_counts):
        with pytest.raises(ValueError, match=r"before validation_7 belonged .* Delete"):
            read(NAME, "validation_7[:10]", copy)


def test_slices_beyond_the_split_are_refused(data_dir):
    """The error names the slice and the size."""
    with pytest.raises(ValueError, match=r"300.*256"):
        load.images(NAME, "train[:300]", data_dir)


def test_images_are_arrays_that_travel_between_processes(data_dir):
    """A source can be pickled, as loaders with worker processes do."""
    images = load.images(NAME, "test_7", data_dir)
    copy = pickle.loads(pickle.dumps(images))
    assert images[3].dtype == np.uint8
    assert images[3].shape == (64, 64, 3)
    assert len(copy) == len(images)
    np.testing.assert_array_equal(copy[3], images[3])


def test_a_killed_generation_is_begun_again(tmp_path):
    """Nothing that a killed process leaves is taken for a data set."""
    killed = run_python("-c", KILLED_IN_THE_SECOND_SPLIT, tmp_path)
    assert killed.returncode == 9, killed.stderr
    assert list(tmp_path.rglob("incomplete*"))
    assert len(load.images(NAME, "test", tmp_path)) == 256


def test_two_processes_may_prepare_the_same_data_set(tmp_path):
    """Whoever is second uses what the first has made."""
    spawn = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(2, mp_context=spawn) as pool:
        made = [pool.submit(load.builder, NAME, tmp_path) for _ in range(2)]
        paths = {future.result().data_path for future in made}
    assert len(paths) == 1
    assert len(load.images(NAME, "test", tmp_path)) == 256


def test_losing_the_race_to_prepare(tmp_path, monkeypatch):
    """A data set that another process finishes in the meantime is used."""
    loser = load.BUILDERS[NAME][0]
    original = loser._split_generators

    def finished_elsewhere(self, dl_manager):
        monkeypatch.setattr(loser, "_split_generators", original)
        load.builder(NAME, tmp_path)
        return original(self, dl_manager)

    monkeypatch.setattr(loser, "_split_generators", finished_elsewhere)
    assert load.builder(NAME, tmp_path).is_prepared()


def test_what_is_not_a_data_set_is_refused(tmp_path):
    """A directory without TFDS's description is named, with the way out."""
    (tmp_path / "multi_dsprites" / "tiny" / "1.0.0").mkdir(parents=True)
    with pytest.raises(ValueError, match="Delete it"):
        load.data_source(NAME, "test", tmp_path)


def test_a_file_as_data_dir_is_refused(tmp_path):
    """Where nothing can be written, the error names the place."""
    (tmp_path / "taken").touch()
    with pytest.raises(OSError, match="taken"):
        load.data_source(NAME, "test", tmp_path / "taken")


def test_reading_needs_neither_jax_nor_tensorflow(data_dir):
    """No module of either is loaded by reading."""
    printed(READS_WITHOUT_JAX, data_dir)


def test_generate_command(tmp_path):
    """The command fills TFDS's default directory, shows progress and says where."""
    done = run_python(
        "-m", "datasets.generate", f"--name={NAME}", TFDS_DATA_DIR=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "multi_dsprites" / "tiny" / "1.0.0"
    assert f"{folder}: train 256, test 256, test_7 256, validation_7 256" in done.stdout
    assert "test_7: 100%" in done.stderr
    assert (folder / "dataset_info.json").exists()


def test_generate_command_reports_missing_files(tmp_path):
    """A missing file is an exit with a message, not a traceback."""
    done = run_python(
        "-m",
        "datasets.generate",
        "--name=multi_mnist/tiny",
        f"--data_dir={tmp_path / 'data'}",
        f"--manual_dir={tmp_path}",
    )
    assert done.returncode == 1
    assert "train-images-idx3-ubyte.gz" in done.stderr
    assert "Traceback" not in done.stderr
