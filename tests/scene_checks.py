"""The tests of the scene data sets share these checks."""

import collections
import functools
import hashlib
import itertools
import os
import pathlib

import numpy as np
import pytest

from datasets import load

MNIST_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")


def digest(examples):
    """Returns half the SHA-256 of a split's names, shapes, types and decoded values."""
    total = hashlib.sha256()
    for example in examples:
        for name in sorted(example):
            value = np.asarray(example[name])
            little_endian = value.astype(value.dtype.newbyteorder("<"))
            total.update(f"{name} {value.dtype.name} {value.shape}".encode())
            total.update(little_endian.tobytes())
    return total.hexdigest()[:32]


def check_ground_truth(example, counts):
    """Asserts that boxes, centres, map and image of one example agree."""
    n = int(example["n"])
    assert n in counts
    image, segmentation = example["image"], example["segmentation"]
    assert image.dtype == segmentation.dtype == np.uint8
    assert set(np.unique(image)) <= {0, 255}
    np.testing.assert_array_equal(image.any(-1), segmentation > 0)
    assert set(np.unique(segmentation)) == set(range(n + 1))
    for slot in range(n):
        rows, columns = np.nonzero(segmentation == slot + 1)
        top, left = rows.min(), columns.min()
        bottom, right = rows.max() + 1, columns.max() + 1
        assert example["box"][slot].tolist() == [top, left, bottom, right]
        centre = [(top + bottom - 1) / 2, (left + right - 1) / 2]
        assert example["centre"][slot].tolist() == centre
        colours = image[segmentation == slot + 1]
        assert (colours == colours[0]).all()
    for name in example.keys() - {"image", "segmentation", "n"}:
        assert len(example[name]) == 10
        assert (example[name][n:] == -1).all()


def check_boxes_are_apart(boxes):
    """Asserts that no two of some boxes (top, left, bottom, right) share a pixel."""
    for a, b in itertools.combinations(boxes.tolist(), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def _overlap(corner, size, other_corner, other_size):
    """Tells whether two boxes share a pixel, by listing their pixels."""
    pixels = [
        {(top + i, left + j) for i in range(height) for j in range(width)}
        for (top, left), (height, width) in (
            (corner, size),
            (other_corner, other_size),
        )
    ]
    return bool(pixels[0] & pixels[1])


def sequential_law(sizes, canvas):
    """Returns P(corners of the boxes in order), by enumerating every placement."""
    law = collections.Counter({(): 1.0})
    for i, (height, width) in enumerate(sizes):
        rows, columns = range(canvas - height + 1), range(canvas - width + 1)
        positions = list(itertools.product(rows, columns))
        longer = collections.Counter()
        for placed, probability in law.items():
            free = [
                position
                for position in positions
                if not any(
                    _overlap(position, sizes[i], corner, size)
                    for corner, size in zip(placed, sizes[:i], strict=True)
                )
            ]
            for position in free:
                longer[(*placed, position)] = probability / len(free)
        law = longer
    total = sum(law.values())
    return {placed: probability / total for placed, probability in law.items()}


def mnist_dir():
    """Returns the folder of MNIST's training files; skips the test if there is none."""
    beside = pathlib.Path(__file__).parents[2] / "shared" / "mnist"
    folder = pathlib.Path(os.environ.get("LAVAE_MNIST_DIR", beside))
    missing = [name for name in MNIST_FILES if not (folder / name).exists()]
    if missing:
        pytest.skip(
            f"{folder} lacks {', '.join(missing)}; set LAVAE_MNIST_DIR to a directory "
            "that has them"
        )
    return folder


@functools.cache
def first_scenes(name, split, num_images):
    """Makes a split's first images and their counts, without writing a data set.

    They are uint8 [num_images, 64, 64, C] and [num_images]. The test is skipped where
    MNIST is needed and is not there.
    """
    builder_class, variant = load.BUILDERS[name]
    folder = mnist_dir() if name.startswith("multi_mnist") else None
    scene = load.scene_maker(name, manual_dir=folder)
    wanted = builder_class(config=variant).splits[split]
    made = [scene(wanted, index) for index in range(num_images)]
    images, counts = (
        np.array([one[field] for one in made]) for field in ("image", "n")
    )
    return images, counts
