"""Batches hold the right images for every process and after a restart."""

import itertools
import json

import numpy as np
from ml_collections import ConfigDict

from datasets import load
from experiments.run import input_pipeline

# Image i is constant i, so that a batch shows which images are in it.
NUM = 30
IMAGES = [np.full((2, 3, 1), index, np.uint8) for index in range(NUM)]


def _take(iterator, count):
    return [batch[:, 0, 0, 0] for batch in itertools.islice(iterator, count)]


def _config(data_dir, num_valid=32, num_eval_images=16, name="multi_dsprites/tiny"):
    data = dict(name=name, data_dir=data_dir, manual_dir=None, num_valid=num_valid)
    return ConfigDict({"data": data, "num_eval_images": num_eval_images})


def test_every_epoch_has_every_image_once():
    """Three epochs are three different permutations of all images."""
    batches = _take(input_pipeline.batches(IMAGES, 6, seed=1), 15)
    epochs = np.concatenate(batches).reshape(3, NUM)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(NUM), (3, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert tuple(epochs[0]) != tuple(range(NUM))


def test_batches_are_whole_across_epochs():
    """A batch is never cut short, even where it is larger than the data set."""
    batch = next(input_pipeline.batches(IMAGES, 64, seed=0))
    assert (batch.shape, batch.dtype) == ((64, 2, 3, 1), np.uint8)
    counts = np.bincount(batch[:, 1, 2, 0], minlength=NUM)
    assert set(counts) == {2, 3}


def test_parts_of_the_processes_make_the_batch():
    """The processes' parts, in order, are the batch that one process would get."""
    whole = _take(input_pipeline.batches(IMAGES, 12, seed=2), 9)
    parts = [
        _take(input_pipeline.batches(IMAGES, 12, 2, index, 3), 9) for index in range(3)
    ]
    joined = [np.concatenate(step) for step in zip(*parts, strict=True)]
    np.testing.assert_array_equal(joined, whole)


def test_goes_on_from_its_state():
    """A restart from a state in JSON gives the batches that would have come."""
    iterator = input_pipeline.batches(
        IMAGES, 4, seed=3, process_index=1, process_count=2
    )
    _take(iterator, 11)
    state = json.dumps(iterator.get_state())
    expected = _take(iterator, 20)
    restarted = input_pipeline.batches(
        IMAGES, 4, seed=3, process_index=1, process_count=2
    )
    restarted.set_state(json.loads(state))
    np.testing.assert_array_equal(_take(restarted, 20), expected)


def test_held_out_scenes_are_not_trained_on(data_dir):
    """The last `num_valid` scenes are left out; the first of them are held out."""
    train, held_out = input_pipeline.load_data(_config(data_dir))
    scenes = load.data_source("multi_dsprites/tiny", "train", data_dir)
    assert len(train) == len(scenes) - 32
    np.testing.assert_array_equal(train[3], scenes[3]["image"])
    np.testing.assert_array_equal(
        train[len(train) - 1], scenes[len(train) - 1]["image"]
    )
    assert held_out.images.shape == (16, 64, 64, 3)
    assert (held_out.images.dtype, held_out.n.dtype) == (np.uint8, np.int32)
    for index in range(16):
        scene = scenes[len(train) + index]
        np.testing.assert_array_equal(held_out.images[index], scene["image"])
        assert held_out.n[index] == scene["n"]
