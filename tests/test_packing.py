"""Packed scenes equal the records of TFDS, however many processes make them."""

import numpy as np
import pytest
from tensorflow_datasets.core import example_serializer

from datasets import load, packing, scene_builder, scenes
from datasets.multi_dsprites.scene import make_scenes
from datasets.multi_mnist import digits
from datasets.multi_mnist.scene import make_scenes as make_digit_scenes

SPLIT = scenes.Split(num_examples=45, counts=(0, 1, 2, 3), stream=3)


@pytest.mark.parametrize("name", ["multi_dsprites/tiny", "multi_mnist/tiny"])
def test_records_are_those_of_tfds(name):
    """Each record equals TFDS's own of the example, with features in order of names."""
    features = load._builder(name).info.features
    specs = features.get_serialized_info()
    theirs = example_serializer.ExampleSerializer(specs)
    ours = scene_builder.PackedSerializer(specs)
    make = load.scene_maker("multi_dsprites")
    if name.startswith("multi_mnist"):
        masks = np.tril(np.ones((3, digits.SIDE, digits.SIDE), bool))
        pool = digits.Digits(masks, *np.arange(9).reshape(3, 3))

        def make(split, index):
            return make_digit_scenes(pool, (0, 0), split, [index])[0]

    for index in range(40):
        example = make(SPLIT, index)
        expected = theirs.get_tf_example(features.encode_example(example))
        expected = expected.SerializeToString(deterministic=True)
        assert ours.serialize_example(packing.pack(example)) == expected


def test_workers_make_the_same_bytes(monkeypatch):
    """A scene's bytes depend neither on the process nor on scenes made with it."""
    monkeypatch.setattr(packing, "CHUNK", 10)
    alone, together = (list(packing.pack_split(make_scenes, SPLIT, k)) for k in (1, 2))
    one_by_one = [packing.pack(make_scenes(SPLIT, [index])[0]) for index in range(45)]
    assert alone == together == one_by_one
