"""Scenes that several processes make and pack: the same bytes, errors, ends."""

import os
import signal
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from tensorflow_datasets.core import example_serializer

from datasets import load, packing, scene_builder, scenes
from datasets.multi_dsprites.scene import many, scene
from datasets.multi_mnist import digits
from datasets.multi_mnist.scene import scene as mnist_scene
from tests import scene_makers
from tests.commands import ROOT

SPLIT = scenes.Split(num_examples=45, counts=(0, 1, 2, 3), stream=3)

INTERRUPTED = """
import zlib
from datasets import packing, scenes
from tests import scene_makers
packing.CHUNK = 1
split = scenes.Split(50, (0,), 0)
if __name__ == "__main__":
    import jax, tests.commands
    for example in packing.pack_split(scene_makers.slow, split, 2):
        print(zlib.decompress(example["process"]).hex(), flush=True)
"""


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of ten scenes."""
    monkeypatch.setattr(packing, "CHUNK", 10)


def _numbers(packed, name):
    return [int.from_bytes(zlib.decompress(one[name]), sys.byteorder) for one in packed]


def _text(packed, name):
    return zlib.decompress(packed[name]).decode("utf-32-le").rstrip("\0")


@pytest.mark.parametrize("name", ["multi_dsprites/tiny", "multi_mnist/tiny"])
def test_records_are_those_of_tfds(name):
    """Each is what TFDS makes of the example, with its features in order of names."""
    features = load._builder(name).info.features
    specs = features.get_serialized_info()
    theirs = example_serializer.ExampleSerializer(specs)
    ours = scene_builder.PackedSerializer(specs)
    make = load.scene_maker("multi_dsprites")
    if name.startswith("multi_mnist"):
        masks = np.tril(np.ones((3, digits.SIDE, digits.SIDE), bool))
        pool = digits.Digits(masks, *np.arange(9).reshape(3, 3))

        def make(split, index):
            return mnist_scene(pool, (0, 0), split, index)

    for index in range(40):
        example = make(SPLIT, index)
        expected = theirs.get_tf_example(features.encode_example(example))
        expected = expected.SerializeToString(deterministic=True)
        assert ours.serialize_example(packing.pack(example)) == expected


@pytest.mark.parametrize("num_workers", [1, 2])
def test_scenes_come_in_order(small_chunks, num_workers):
    """Workers or none, the last chunk shorter than the others or not."""
    for size in (45, 40):
        split = SPLIT._replace(num_examples=size)
        packed = packing.pack_split(scene_makers.squares, split, num_workers)
        assert _numbers(packed, "square") == [3 * i**2 for i in range(size)]


def test_workers_make_the_same_bytes(small_chunks):
    """A scene does not depend on the process, nor on those made with it."""
    alone, together = (list(packing.pack_split(many, SPLIT, k)) for k in (1, 2))
    one_by_one = [packing.pack(scene(SPLIT, index)) for index in range(45)]
    assert alone == together == one_by_one


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_is_raised_as_it_is(small_chunks, num_workers):
    """Its type and its words are those of the worker."""
    with pytest.raises(ValueError, match="scene 7 can't be made"):
        list(packing.pack_split(scene_makers.failing, SPLIT, num_workers))


def test_workers_are_light_and_end(small_chunks):
    """They load none of what is heavy, and are gone once nobody wants their scenes."""
    packed = packing.pack_split(scene_makers.processes, SPLIT, 2)
    first = next(packed)
    (worker,) = _numbers([first], "process")
    assert worker != os.getpid() and _text(first, "loaded") == ""
    packed.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_few_scenes_need_no_workers():
    """They are made before workers would have started."""
    (first, *_) = packing.pack_split(scene_makers.processes, SPLIT)
    assert _numbers([first], "process") == [os.getpid()]


def test_ctrl_c_ends_the_workers(tmp_path):
    """Within seconds, although most of the work is still to be done."""
    (tmp_path / "script.py").write_text(INTERRUPTED)
    command = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    worker = int.from_bytes(bytes.fromhex(command.stdout.readline()), sys.byteorder)
    os.killpg(command.pid, signal.SIGINT)
    start = time.monotonic()
    _, errors = command.communicate(timeout=60)
    assert time.monotonic() - start < 30
    assert command.returncode != 0 and "KeyboardInterrupt" in errors
    print(errors)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
