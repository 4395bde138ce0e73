"""multi-MNIST checks MNIST's files, chooses digits, and makes consistent scenes."""

import functools
import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest

from datasets import floors, load, scenes
from datasets.multi_mnist import digits
from datasets.multi_mnist import multi_mnist_dataset_builder as builder
from tests import scene_checks

NAME = "multi_mnist/tiny"
COUNTS = {
    "train": (0, 1, 2, 3),
    "test": (0, 1, 2, 3),
    "test_7": (7,),
    "test_new_digits": (0, 1, 2, 3),
    "validation_7": (7,),
}
CHECKSUMS = {
    "train": "9b8b7ae751ef7015d0c87ff49ccafc20",
    "test": "f536df273e47c87d154cd0cdfc4a4abf",
    "test_7": "cbcfa64730a0e9a56923c70b5f060494",
    "test_new_digits": "88cbca7323a0062199a8c394e34df711",
    "validation_7": "384ebf5a93e2efd1d7f5a0fddc54f715",
    "test_close": "a18f8d9e9e6d5eaea556e0c9b0323052",
    "validation_close": "869c37d57074f2083adebac60fcc2601",
}


class Drawn:
    """Writes random strokes in MNIST's file format, and keeps them for comparison."""

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        self.images = np.zeros((10_300, 28, 28), np.uint8)
        top, left = rng.integers(4, 20, (2, 10_300))
        for image, row, column in zip(self.images, top, left, strict=True):
            image[row : row + 4, 3 : column + 3] = rng.integers(200, 256)
            image[5 : row + 3, column : column + 4] = rng.integers(200, 256)
        self.images[17] = 0
        self.labels = rng.integers(0, 10, 10_300).astype(np.uint8)
        self.pool, self.new_digits = digits.choose(self.images, self.labels, 1_000)
        self.folder = folder
        self.sha256 = {
            digits.IMAGES.name: self._write(digits.IMAGES.name, self.images),
            digits.LABELS.name: self._write(digits.LABELS.name, self.labels),
        }

    def _write(self, name, array):
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        content = header + array.tobytes()
        (self.folder / name).write_bytes(gzip.compress(content, 1))
        return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def drawn_files(tmp_path_factory):
    """Writes files of drawn digits once."""
    return Drawn(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def drawn(drawn_files, monkeypatch):
    """Makes the files of drawn digits the expected ones during the test."""
    for file in ("IMAGES", "LABELS"):
        expected = getattr(digits, file)
        changed = expected._replace(sha256=drawn_files.sha256[expected.name])
        monkeypatch.setattr(digits, file, changed)
    return drawn_files


@pytest.fixture(scope="module")
def real_data_dir(tmp_path_factory):
    """Prepares `tiny` from the real MNIST, and returns its directory."""
    folder = tmp_path_factory.mktemp("multi_mnist")
    load.builder(NAME, folder, scene_checks.mnist_dir())
    return folder


@pytest.fixture
def mirror(drawn_files, monkeypatch):
    """Serves the files locally as the second mirror; the first one lacks them."""
    handler = functools.partial(QuietHandler, directory=drawn_files.folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(builder, "MIRRORS", (address + "absent/", address))
        yield address
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a directory without logging."""

    def log_message(self, *args):
        """Writes nothing."""


@pytest.mark.parametrize("damage", ["truncated", "flipped bits"])
def test_damaged_files_are_refused(drawn, tmp_path, damage):
    """A damaged file of MNIST ends in an error that names the file."""
    packed = bytearray((drawn.folder / digits.LABELS.name).read_bytes())
    if damage == "truncated":
        packed = packed[:-200]
    else:
        packed[100:140] = bytes(40)
    (tmp_path / "labels.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"labels\.gz"):
        digits.read_idx(tmp_path / "labels.gz", digits.LABELS)


def test_shrinking_is_bilinear(drawn):
    """Masks equal those of a float64 triangle filter, but for ties at the threshold."""
    images = drawn.images[:300]
    centres = (np.arange(15) + 0.5) * 28 / 15
    distance = np.abs(np.arange(28) + 0.5 - centres[:, None]) / (28 / 15)
    weights = np.maximum(0, 1 - distance)
    weights /= weights.sum(1, keepdims=True)
    grey = np.einsum("ri,nij,cj->nrc", weights, images.astype(float), weights)
    clear = np.abs(grey - 127.5) > 1.5
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(digits.shrink(images)[clear], (grey > 127.5)[clear])


def test_pools_are_nested_and_new_digits_are_new(drawn):
    """No new digit is in a pool or looks like one; blank digits are left out."""
    small, new = digits.choose(drawn.images, drawn.labels, 100)
    large, same_new = digits.choose(drawn.images, drawn.labels, 10_000)
    np.testing.assert_array_equal(small.mnist_index, large.mnist_index[:100])
    np.testing.assert_array_equal(new.mnist_index, same_new.mnist_index)
    assert len(set(large.mnist_index.tolist())) == 10_000
    pool_masks = {mask.tobytes() for mask in large.masks}
    assert 0 < len(new.masks) < 300
    assert not pool_masks & {mask.tobytes() for mask in new.masks}
    everything = np.concatenate([large.mnist_index, new.mnist_index])
    assert len(set(everything.tolist())) == len(everything)
    assert 17 not in everything
    assert large.pool_index.tolist() == list(range(10_000))
    assert (new.pool_index == scenes.EMPTY).all()
    for chosen in (small, large, new):
        np.testing.assert_array_equal(chosen.labels, drawn.labels[chosen.mnist_index])
        np.testing.assert_array_equal(
            chosen.masks, digits.shrink(drawn.images[chosen.mnist_index])
        )


def check_split(source, split, drawn):
    """Asserts the ground truth of a split made of drawn digits."""
    for example in source:
        scene_checks.check_ground_truth(example, COUNTS[split])
        n = int(example["n"])
        scene_checks.check_boxes_are_apart(example["box"][:n])
        index = example["mnist_index"][:n]
        np.testing.assert_array_equal(example["digit"][:n], drawn.labels[index])
        masks = digits.shrink(drawn.images[index]) if n else ()
        for slot, mask in enumerate(masks):
            top, left, bottom, right = example["box"][slot]
            seen = example["segmentation"][top:bottom, left:right] == slot + 1
            np.testing.assert_array_equal(seen, scenes.crop(mask))
        if split == "test_new_digits":
            assert set(index) <= set(drawn.new_digits.mnist_index)
            assert (example["pool_index"] == scenes.EMPTY).all()
        else:
            pool_index = example["pool_index"][:n]
            np.testing.assert_array_equal(drawn.pool.mnist_index[pool_index], index)


def test_scenes_of_drawn_digits(drawn, tmp_path):
    """The files in a manual directory become scenes with consistent ground truth.

    A scene maker gives the same scenes, and others of the pool's digits.
    """
    made = load.builder(NAME, tmp_path / "data", drawn.folder).splits
    scene = load.scene_maker(NAME, tmp_path / "made", drawn.folder)
    for split in COUNTS:
        source = load.data_source(NAME, split, tmp_path / "data", drawn.folder)
        assert len(source) == 256
        check_split(source, split, drawn)
        if split == "test_7":
            np.testing.assert_equal(scene(made[split], 3), source[3])
    example = scene(scenes.extra_split(n=10, seed=0), 0)
    scene_checks.check_ground_truth(example, {10})
    assert (example["pool_index"] < 1_000).all()


def test_squares_of_digits_do_not_overlap(drawn):
    """The digits' 15x15 squares, margins included, are apart."""
    pool, _ = digits.choose(drawn.images, drawn.labels, 100)
    split = scenes.Split(num_examples=0, counts=(7,), stream=2)
    for index in range(100):
        (example,) = builder.make_scenes(pool, (1,), split, [index])
        offsets = [
            scenes.footprint(pool.masks[i]).box[:2] for i in example["pool_index"][:7]
        ]
        corners = example["box"][:7, :2] - offsets
        assert (corners >= 0).all()
        assert (corners + 15 <= 64).all()
        scene_checks.check_boxes_are_apart(np.hstack([corners, corners + 15]))


def test_downloads_from_the_first_mirror_that_answers(drawn, mirror, tmp_path):
    """A mirror without the files is passed over."""
    split = "test_new_digits"
    source = load.data_source(NAME, split, tmp_path / "data")
    check_split(source, split, drawn)


def test_files_missing_from_the_manual_directory(drawn, tmp_path):
    """The error names the file that is missing."""
    (tmp_path / digits.IMAGES.name).touch()
    with pytest.raises(FileNotFoundError, match="train-labels"):
        load.data_source(NAME, "test", tmp_path / "data", tmp_path)


def test_wrong_files(drawn_files, tmp_path):
    """Files with other content than MNIST's are refused before any scene is made."""
    with pytest.raises(ValueError, match="SHA-256"):
        load.data_source(NAME, "test", tmp_path, drawn_files.folder)
    assert not list(tmp_path.rglob("*.array_record*"))


def test_every_download_has_a_checksum():
    """checksums.tsv lists both files on every mirror."""
    expected = {
        mirror + file.name
        for mirror in builder.MIRRORS
        for file in (digits.IMAGES, digits.LABELS)
    }
    assert set(builder.Builder.url_infos) == expected


@pytest.mark.parametrize("split", CHECKSUMS)
def test_content_of_the_splits_is_pinned(real_data_dir, split):
    """The version fixes every byte of the decoded content."""
    source = load.data_source(NAME, split, real_data_dir)
    assert scene_checks.digest(source) == CHECKSUMS[split]


def test_floor_of_multi_mnist_1k(real_data_dir):
    """The floor is just below log 4 + E[sum log(D - i + 1) - log n! + n log 1000]."""
    sites = sum(
        sum(np.log(4096 - i) for i in range(n)) - np.log(max(1, n * (n - 1)))
        for n in range(4)
    )
    ceiling = np.log(4) + sites / 4 + 1.5 * np.log(1000)
    bounds = floors.floor(NAME, "test", real_data_dir)
    assert ceiling - 0.02 < bounds.floor < ceiling
    assert 22.4 < bounds.entropy < 22.7


def test_new_digits_have_no_floor(tmp_path):
    """New digits have no floor, as no model can know their probability."""
    with pytest.raises(floors.NoFloorError, match="no floor"):
        floors.floor(NAME, "test_new_digits", tmp_path)
    assert not list(tmp_path.iterdir())  # refused before the data set is made
