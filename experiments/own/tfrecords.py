"""Reads files of the multi-object data sets (Kabra et al., 2019) without TensorFlow.

Their TFRecord files hold an example per scene, with `image` [H, W, 3] and `mask`
[K, H, W, 1], 255 where one of K entities is seen, the first of which is the background.
Images are square. https://github.com/google-deepmind/multi_object_datasets has them.
"""

import gzip
import itertools
import math
import pathlib
import struct
from collections.abc import Collection, Iterator
from typing import BinaryIO

import numpy as np
from google.protobuf import message
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import auto as tqdm

_GZIP = b"\x1f\x8b"
_LENGTH, _CHECKSUM_BYTES = struct.Struct("<Q"), 4
_MOST_BYTES = 2**28  # of a record; a larger one is a sign of damage
_SOON = 2.0  # seconds after which a progress bar appears


def read(
    path: pathlib.Path, wanted: Collection[str], most: int | None = None
) -> dict[str, np.ndarray]:
    """Reads the images or masks of at most so many scenes, from the start.

    The checksums of records are not compared. Other damage is a ValueError or EOFError.

    Returns:
        Of `images` [N, H, W, C] uint8, and `masks` [N, H, W], labels from 0 for the
        background on, those that are wanted and that the file has.
    """
    with path.open("rb") as file:
        is_packed = file.read(2) == _GZIP
    with gzip.open(path) if is_packed else path.open("rb") as file:
        records = itertools.islice(_records(file), most)
        scenes = [
            _scene(record, wanted)
            for record in tqdm.tqdm(
                records, desc=path.name, unit=" scenes", leave=False, delay=_SOON
            )
        ]
    if not scenes:
        raise ValueError("it holds no records")
    names = set.intersection(*map(set, scenes))
    return {name: np.array([scene[name] for scene in scenes]) for name in names}


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Yields the records, which come with their length and two checksums."""
    while header := file.read(_LENGTH.size):
        if len(header) < _LENGTH.size:
            raise EOFError("the last record is cut off")
        (length,) = _LENGTH.unpack(header)
        if length > _MOST_BYTES:
            raise ValueError("it holds no TFRecords")
        content = file.read(length + 2 * _CHECKSUM_BYTES)
        if len(content) < length + 2 * _CHECKSUM_BYTES:
            raise EOFError("the last record is cut off")
        yield content[_CHECKSUM_BYTES:-_CHECKSUM_BYTES]


def _scene(record: bytes, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Decodes the image [H, W, C] and the labels [H, W] of a record."""
    try:
        features = tf_example_pb2.Example.FromString(record).features.feature
    except message.DecodeError as error:
        raise ValueError("it holds no tf.train.Example") from error
    image = _pixels(features, "image")
    if not image.size:
        raise ValueError(f"no bytes 'image' among {', '.join(sorted(features))}")
    sides = {channels: math.isqrt(image.size // channels) for channels in (3, 1)}
    fitting = [c for c, side in sides.items() if side * side * c == image.size]
    if not fitting:
        raise ValueError(f"an image of {image.size} bytes is not square")
    channels, side = fitting[0], sides[fitting[0]]
    scene, mask = {}, _pixels(features, "mask")
    if "images" in wanted:
        scene["images"] = image.reshape(side, side, channels)
    if "masks" in wanted and mask.size:
        scene["masks"] = labels_of(mask.reshape(-1, side, side))
    return scene


def _pixels(features, name):
    """Returns the bytes of a feature, which may come in pieces; none without it."""
    pieces = features[name].bytes_list.value if name in features else []
    return np.frombuffer(b"".join(pieces), np.uint8)


def labels_of(masks: np.ndarray) -> np.ndarray:
    """Turns masks [..., K, H, W] of K entities into labels [..., H, W].

    The first entity is the background, 0.
    """
    return masks.argmax(axis=-3).astype(np.int32)
