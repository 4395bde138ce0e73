"""MNIST's digits as sprites: reading the files, shrinking, choosing the pools."""

import gzip
import hashlib
import os
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from datasets import scenes

SIDE = 15
"""Height and width of a digit in a scene, in pixels."""

LARGEST_POOL = 10_000

SEED = 1


class IdxFile(NamedTuple):
    """One gzipped file of MNIST, which holds a uint8 array of `rank` axes.

    The checksum is of its unpacked content: gzip may pack that in several ways.
    """

    name: str
    sha256: str
    rank: int


IMAGES = IdxFile(
    name="train-images-idx3-ubyte.gz",
    sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    rank=3,
)
LABELS = IdxFile(
    name="train-labels-idx1-ubyte.gz",
    sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    rank=1,
)


class Digits(NamedTuple):
    """Digits to draw from, each with the same probability.

    Attributes:
        masks: bool [N, 15, 15].
        labels: int [N], 0 to 9.
        mnist_index: int [N], positions in MNIST's training set.
        pool_index: int [N], positions in the pool, or `scenes.EMPTY` for others.
    """

    masks: np.ndarray
    labels: np.ndarray
    mnist_index: np.ndarray
    pool_index: np.ndarray


def read_idx(path: str | os.PathLike[str], file: IdxFile) -> np.ndarray:
    """Reads the uint8 array in a gzipped IDX file after checking its content.

    Raises:
        ValueError: if the file is not the expected one.
    """
    with open(path, "rb") as packed:
        try:
            content = gzip.decompress(packed.read())
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is not a complete gzip file: {error}.") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise ValueError(
            f"{path} is not MNIST's {file.name}: the SHA-256 of its unpacked content "
            f"is {digest}, expected {file.sha256}. Delete it and download it again."
        )
    shape = np.frombuffer(content, ">u4", count=file.rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * file.rank).reshape(shape)


def shrink(images: np.ndarray) -> np.ndarray:
    """Rescales digits by bilinear interpolation and rounds them to 0 or 1.

    Pillow's bilinear filter is used, which averages over the area of the new pixel
    when it shrinks, in integer arithmetic that is the same on every machine. From uint8
    [N, 28, 28] to bool [N, 15, 15], true where the rescaled value is at least 128.
    """
    small = [
        Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        for image in images
    ]
    return np.stack([np.asarray(image) for image in small]) >= 128


def choose(
    images: np.ndarray, labels: np.ndarray, pool_size: int
) -> tuple[Digits, Digits]:
    """Chooses the digits of the pool and the new ones, from [N] images and labels.

    Digits are put into a fixed random order. Those of which no pixel remains after
    shrinking are left out. The first `pool_size` are the pool, so that smaller pools
    are part of larger ones. Those after the first `LARGEST_POOL` are the new digits,
    except where their mask equals one of the first: no pool has a digit like them.
    """
    masks = shrink(images)
    order = scenes.permutation(len(masks), SEED)
    order = order[masks[order].any((1, 2))]
    pool, rest = order[:pool_size], order[LARGEST_POOL:]
    known = {masks[i].tobytes() for i in order[:LARGEST_POOL]}
    new = np.array([i for i in rest if masks[i].tobytes() not in known])
    return (
        Digits(masks[pool], labels[pool], pool, np.arange(pool_size)),
        Digits(masks[new], labels[new], new, np.full(len(new), scenes.EMPTY)),
    )
