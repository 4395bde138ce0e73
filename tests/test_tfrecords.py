"""Files of the multi-object data sets are read without TensorFlow, and as HDF5."""

import gzip
import struct

import h5py
import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from experiments.configs import custom
from experiments.own import data as own_data
from experiments.own import images as own_images
from experiments.own import pictures, tfrecords

_SIDE, _NUM = 10, 5


def _scenes():
    """Makes images [N, H, W, 3] of 0 and 255, and masks [N, K, H, W, 1], K = 3."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (_NUM, _SIDE, _SIDE))
    masks = 255 * (labels[:, None] == np.arange(3)[:, None, None])[..., None]
    colours = np.array([(0, 0, 0), (255, 0, 255), (0, 255, 0)], np.uint8)
    return colours[labels], masks.astype(np.uint8), labels


def _example(in_pieces=True, **arrays):
    example = tf_example_pb2.Example()
    for name, array in arrays.items():
        content = array.tobytes()
        # The public files have one value per byte.
        size = 1 if in_pieces else len(content)
        pieces = [content[i : i + size] for i in range(0, len(content), size)]
        example.features.feature[name].bytes_list.value.extend(pieces)
    example.features.feature["x"].float_list.value.extend([1.0, 2.0])
    return example.SerializeToString(deterministic=True)


def _framed(*records):
    parts = [struct.pack("<QI", len(r), 0) + r + b"\0\0\0\0" for r in records]
    return b"".join(parts)


@pytest.mark.parametrize("in_pieces", [True, False])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_images_and_labels(tmp_path, pack, in_pieces):
    """Images and labels are the file's, packed or not; the first mask is background."""
    images, masks, labels = _scenes()
    path = tmp_path / "a_train.tfrecords"
    records = [
        _example(in_pieces, image=image, mask=mask)
        for image, mask in zip(images, masks, strict=True)
    ]
    path.write_bytes(pack(_framed(*records)))
    arrays = pictures.read_arrays(path, "images", "masks", "n", most=4)
    np.testing.assert_array_equal(arrays["images"], images[:4])
    np.testing.assert_array_equal(arrays["masks"], labels[:4])
    found = pictures.find(path)
    assert len(found.names) == _NUM and found.names[1] == "a_train.tfrecords[1]"
    np.testing.assert_array_equal(found.read(1), images[1])


@pytest.mark.parametrize("axes", [4, 5])
def test_hdf5_copies(tmp_path, axes):
    """Copies as HDF5 have the arrays `image` and `mask`, of which parts are read."""
    images, masks, labels = _scenes()
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["image"], file["x"] = images, np.zeros((_NUM, 4))
        file["mask"] = masks if axes == 5 else masks[..., 0]
    config = custom.get_config("tiny")
    config.data.update(path=str(path), num_images=4)
    own = own_data.read(config)
    np.testing.assert_array_equal(own.images, images[:4])
    assert own.n.tolist() == [len(np.unique(one)) - 1 for one in labels[:4]]
    truth = own_data.load_truth(config, own.images)
    np.testing.assert_array_equal(truth.labels, labels[:4])
    with pytest.raises(ValueError, match="masks is"):
        own_images.load_truth(path, own.images.shape)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no records"),
        (_framed(_example(image=np.zeros((4, 4, 3), np.uint8)))[:-2], "cut off"),
        (_framed(b"abc"), "tf.train.Example"),
        (b"no TFRecords at all", "no TFRecords"),
        (_framed(_example(mask=np.zeros(9, np.uint8))), "no bytes 'image'"),
        (_framed(_example(image=np.zeros((4, 5, 3), np.uint8))), "not square"),
        (gzip.compress(_framed(b"abc"))[:-9], "damaged"),
    ],
    # Otherwise they are the content, which differs between the processes of a test run.
    ids=["empty", "cut", "no example", "no records", "no image", "oblong", "half"],
)
def test_other_files_are_refused(tmp_path, content, message):
    """A file that is damaged or of another kind is refused in one sentence."""
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        pictures.find(path)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


def test_scenes_without_masks(tmp_path):
    """Images alone are read too, in grey as well."""
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 9), np.uint8)
    path = tmp_path / "a.tfrecords"
    path.write_bytes(_framed(*(_example(image=image) for image in images)))
    arrays = tfrecords.read(path, ("images", "masks"))
    assert list(arrays) == ["images"]
    np.testing.assert_array_equal(arrays["images"][..., 0], images)


def test_labels_with_other_axes(tmp_path):
    """Labels [N, H, W, 1] are labels, and [N, 1, H, W] are refused."""
    labels = np.random.default_rng(0).integers(0, 9, (3, 6, 7))
    for index, shape in enumerate([(3, 6, 7, 1), (3, 6, 7)]):
        path = tmp_path / f"{index}.npz"
        np.savez(path, images=np.zeros((3, 6, 7)), masks=labels.reshape(shape))
        truth = own_images.load_truth(path, (3, 6, 7, 1))
        assert truth.n.tolist() == [len(np.unique(one)) - 1 for one in labels]
    np.savez(tmp_path / "c.npz", masks=labels[:, None])
    with pytest.raises(ValueError, match="masks is"):
        own_images.load_truth(tmp_path / "c.npz", (3, 6, 7, 1))
