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
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from google.protobuf import message
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import auto as tqdm

_GZIP = b"\x1f\x8b"
_LENGTH, _CHECKSUM_BYTES = struct.Struct("<Q"), 4
_MOST_BYTES = 2**28  # of a record; a larger one is a sign of damage
_SOON = 2.0  # seconds after which a progress bar appears


def read(path: pathlib.Path, most: int | None = None) -> dict[str, np.ndarray]:
    """Reads the images and masks of at most so many scenes, from the start.

    Returns:
        `images` [N, H, W, C] uint8, and `masks` [N, H, W], labels from 0 for the
        background on, if the file has them. Damage is a ValueError or EOFError.
    """
    with path.open("rb") as file:
        is_packed = file.read(2) == _GZIP
    with gzip.open(path) if is_packed else path.open("rb") as file:
        records = itertools.islice(_records(file), most)
        scenes = [
            _scene(record)
            for record in tqdm.tqdm(
                records, desc=path.name, unit=" scenes", leave=False, delay=_SOON
            )
        ]
    if not scenes:
        raise ValueError("it holds no records")
    images, masks = zip(*scenes, strict=True)
    arrays = {"images": np.array(images)}
    if all(mask is not None for mask in masks):
        arrays["masks"] = np.array(masks)
    return arrays


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


def _scene(record: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes the image [H, W, C] and labels [H, W] of a record."""
    try:
        features = tf_example_pb2.Example.FromString(record).features.feature
    except message.DecodeError as error:
        raise ValueError("it holds no tf.train.Example") from error
    image = _pixels(features, "image")
    if image is None:
        raise ValueError(f"no feature 'image' among {', '.join(sorted(features))}")
    channels = 3 if image.size % 3 == 0 else 1
    side = math.isqrt(image.size // channels)
    if side * side * channels != image.size:
        raise ValueError(f"an image of {image.size} bytes is not square")
    mask = _pixels(features, "mask")
    labels = None if mask is None else labels_of(mask.reshape(-1, side, side))
    return image.reshape(side, side, channels), labels


def _pixels(features, name):
    """Returns the bytes of a feature, which may come in pieces; None without it."""
    if name not in features:
        return None
    return np.frombuffer(b"".join(features[name].bytes_list.value), np.uint8)


def labels_of(masks: np.ndarray) -> np.ndarray:
    """Turns masks [..., K, H, W] of K entities into labels [..., H, W].

    The first entity is the background, 0.
    """
    return masks.argmax(axis=-3).astype(np.int32)
