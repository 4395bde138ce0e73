"""Users' images are read in every accepted form, and everything else is refused."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments.own import images as own_images

_GREY, _COLOUR = (6, 8, 1), (6, 8, 3)


def _pictures(shape, num=3):
    """Makes [num, H, W, C] booleans that differ between pixels and channels."""
    return np.random.default_rng(0).uniform(size=(num, *shape)) < 0.4


@pytest.mark.parametrize("shape", [_GREY, _COLOUR])
@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_of_every_accepted_kind(tmp_path, shape, white, dtype):
    """0/1 and 0/255 of any number type become uint8 0/255."""
    lit = _pictures(shape)
    np.savez_compressed(tmp_path / "own.npz", lit.astype(dtype) * dtype(white))
    images = own_images.load_images(tmp_path / "own.npz", shape)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, lit * 255)


@pytest.mark.parametrize("mode", ["1", "P", "RGBA"])
def test_png_folder_in_order_of_names(tmp_path, mode):
    """PNG files of every grey or colour mode are read in order; others are ignored."""
    shape = _GREY if mode in ("1", "L") else _COLOUR
    lit = _pictures(shape)
    for name, picture in zip(("a.png", "b.PNG", "c.png"), lit, strict=True):
        pixels = (picture * 255).astype(np.uint8)
        pixels = pixels[..., 0] if shape == _GREY else pixels
        Image.fromarray(pixels).convert(mode).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    images = own_images.load_images(tmp_path, shape)
    np.testing.assert_array_equal(images, lit * 255)


def _refused(path, image_shape=_COLOUR):
    """Returns the message of the error, which must be a single sentence."""
    with pytest.raises(ValueError) as refusal:
        own_images.load_images(path, image_shape)
    message = str(refusal.value)
    assert message.endswith(".") and "\n" not in message
    return message


@pytest.mark.parametrize(
    "array, found",
    [
        (np.zeros((2, 7, 8, 3), np.uint8), "7 pixels high and 8 wide"),
        (np.zeros((8, 3), np.uint8), "first axis of length 1"),
        (np.zeros((0, 6, 8, 3), np.uint8), "no images"),
        (np.full((1, 6, 8, 3), None), "own.npz"),
    ],
)
def test_arrays_that_are_no_images_for_this_model(tmp_path, array, found):
    """The error names a wrong shape or type, or that there is no image."""
    np.savez(tmp_path / "own.npz", array)
    assert found in _refused(tmp_path / "own.npz")


@pytest.mark.parametrize("values", [(0, 1, 255), (0, np.nan, 1), (0, 0.5, 1)])
def test_values_that_are_not_binary(tmp_path, values):
    """The error names the first value that is not binary, and its place."""
    images = np.zeros((2, *_COLOUR))
    images[1, 0, 0, 0], images[1, 3, 4, 2] = values[2], values[1]
    np.savez(tmp_path / "own.npz", images)
    said = _refused(tmp_path / "own.npz")
    assert said.startswith(
        f"own.npz[1] holds the value {float(values[1])} at (3, 4, 2)"
    )


def test_a_header_that_declares_too_much_is_refused(tmp_path):
    """A few bytes that promise more than any memory holds are refused."""
    header = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (10**15, *_COLOUR)}
    np.lib.format.write_array_header_1_0(header, fields)
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    assert "own.npz cannot be read" in _refused(tmp_path / "own.npz")


def test_huge_pictures_are_refused_undecoded(tmp_path, monkeypatch):
    """A picture of more than twice Pillow's limit is refused undecoded."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    assert "a.png cannot be read" in _refused(tmp_path, _GREY)


class _Malice:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("loaded",)


def test_nothing_is_run_that_a_file_brings_along(tmp_path, monkeypatch):
    """No pickle is loaded, neither from an array of objects nor under another name."""
    monkeypatch.chdir(tmp_path)
    objects = np.array([_Malice()], object)
    np.savez(tmp_path / "own.npz", images=objects)
    np.save(tmp_path / "array.npy", objects)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(_Malice()))
    for name in ("own.npz", "array.npz", "pickle.npz"):
        _refused(tmp_path / name)
    assert not (tmp_path / "loaded").exists()


def _file_bytes(kind):
    """Returns the bytes of a valid file of this kind."""
    stream = io.BytesIO()
    lit = _pictures(_GREY)
    if kind == "own.npz":
        np.savez_compressed(stream, images=lit)
    else:
        Image.fromarray((lit[0, ..., 0] * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["own.npz", "own.png"])
@settings(derandomize=True, deadline=None, max_examples=80)
@given(data=st.data())
def test_damaged_files_give_images_or_a_clear_refusal(kind, tmp_path_factory, data):
    """Files cut short or overwritten give binary images or raise a ValueError."""
    content = bytearray(_file_bytes(kind))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(content)))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / kind).write_bytes(content[:length])
    path = folder if kind == "own.png" else folder / kind
    try:
        images = own_images.load_images(path, _GREY)
    except ValueError as error:
        assert kind in str(error)
    else:
        assert images.shape[1:] == _GREY and set(np.unique(images)) <= {0, 255}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_no_numbers_are_not_black(dtype):
    """NaN is refused with a threshold, too; infinity is not 65535, also in float16."""
    image = np.ones((2, 2, 1), dtype)
    image[0, 1] = np.nan
    for threshold, message in ((0, "the value nan"), (0.5, "no numbers")):
        with pytest.raises(ValueError, match=message):
            own_images.binary("a.npy", image, threshold)
    image[0, 1] = np.inf
    with pytest.raises(ValueError, match="holds the value inf"):
        own_images.binary("a.npy", image)


def test_levels_of_no_numbers(tmp_path):
    """Images with NaN have no levels, and the message names the image."""
    np.save(tmp_path / "a.npy", np.full((2, 8, 8), np.nan))
    with pytest.raises(ValueError, match=r"a.npy\[0\] has pixels that are no numbers"):
        own_images.find_levels(tmp_path / "a.npy")
