"""Files of every format that people have are read, and what is left out is said."""

import struct
import zlib

import h5py
import numpy as np
import pytest
from PIL import Image
from skimage import io

from experiments.own import images as own_images
from experiments.own import pictures

LEVELS = np.random.default_rng(0).integers(0, 2**15, (3, 9, 11), np.int64)


def _save(folder, name, pixels):
    Image.fromarray(pixels).save(folder / name)
    return folder / name


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_8_bits(tmp_path, suffix, channels):
    """Grey and colour pictures are read as they are; JPEG to a few grey levels."""
    flat = np.full((16, 24, channels), 40, np.uint8)
    flat[4:12, 8:16] = 200
    path = _save(tmp_path, f"a{suffix}", flat[..., 0] if channels == 1 else flat)
    read = pictures.read_picture(path)
    assert (read.dtype, read.shape) == (np.uint8, flat.shape)
    error = np.abs(read.astype(int) - flat).max()
    assert error <= (8 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", "<f4"])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_pictures_of_more_bits(tmp_path, dtype, suffix):
    """16 and 32 bits are read, and the values are those that were written."""
    if suffix == ".png" and dtype != "<u2":
        pytest.skip("PNG files have 8 or 16 bits, in one byte order")
    levels = LEVELS[0].astype(dtype)
    mode = {"<u2": "I;16", ">u2": "I;16B", "<i4": "I", "<f4": "F"}[dtype]
    picture = Image.frombytes(mode, levels.shape[::-1], levels.tobytes())
    picture.save(tmp_path / f"a{suffix}")
    read = pictures.read_picture(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read[..., 0], LEVELS[0])
    assert read.dtype.isnative


@pytest.mark.parametrize("dtype", ["?", "u1", ">i2", "<u4", ">u8", ">f4", "<f8", "f2"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_arrays(tmp_path, dtype, suffix):
    """Arrays of every number type and byte order are read, with their values."""
    values = (LEVELS % 2 if dtype in "?u1" else LEVELS % 2**11).astype(dtype)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    elif suffix == ".npz":
        np.savez(path, images=values, other=np.arange(3))
    else:
        with h5py.File(path, "w") as file:
            file["images"], file["other"] = values, np.arange(3)
    found = pictures.find(path)
    assert found.names == tuple(f"a{suffix}[{index}]" for index in range(3))
    for index, expected in enumerate(values):
        read = found.read(index)
        np.testing.assert_array_equal(read[..., 0], expected)
        assert read.dtype.isnative and read.dtype == values.dtype.newbyteorder("=")


def test_folders_say_what_they_leave_out(tmp_path):
    """Hidden files are skipped, and other files and folders are counted aloud."""
    grey = np.zeros((9, 9), np.uint8)
    for name in ("b.png", "a.JPG", "c.tiff"):
        _save(tmp_path, name, grey)
    (tmp_path / "._a.png").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "more.png").mkdir()
    found = pictures.find(tmp_path)
    assert found.names == ("a.JPG", "b.png", "c.tiff")
    assert "1 .txt files, 1 folders" in found.remark
    for name in found.names:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"no pictures .*1 \.txt files"):
        pictures.find(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.with_suffix(".gif"), "does not exist"),
        (lambda path: _written(path.with_suffix(".txt"), b"text"), "no file of pict"),
        (lambda path: _written(path.with_suffix(".png"), b"text"), "cannot be read"),
        (lambda path: _written(path.with_suffix(".h5"), b"text"), "cannot be read"),
        (lambda path: _stack(path.with_suffix(".tif")), "holds 3 pictures"),
        (lambda path: _saved(path, np.zeros((2, 3, 4, 5))), r"shape \(2, 3, 4, 5\)"),
        (lambda path: _saved(path, np.zeros(3, "U3")), "values of type <U3"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, make, message):
    """The message names the file and says what is wrong with it."""
    path = make(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=message) as refusal:
        found = pictures.find(path)
        found.read(0)
    assert path.name in str(refusal.value)


def _written(path, content):
    path.write_bytes(content)
    return path


def _saved(path, array):
    np.save(path, array)
    return path


def _stack(path):
    pages = [Image.fromarray(page.astype(np.uint8)) for page in LEVELS]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


# What a file says about the objects of its images.

MASKS = np.zeros((2, 6, 8), np.int32)
MASKS[0, 1:3, 2:5] = 7
MASKS[0, 4:6, 0:2] = 2
POSITIONS = np.array([[[4.5, 0.5], [1.5, 3.0], [-1, -1]], [[np.nan] * 2] * 3])


def _truth(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", images=np.zeros((2, 6, 8)), **arrays)
    return own_images.load_truth(tmp_path / "own.npz", (2, 6, 8, 1))


def test_masks_and_positions(tmp_path):
    """Masks give numbers and centres; positions alone give the same ones."""
    for arrays in ({"masks": MASKS}, {"positions": POSITIONS}):
        truth = _truth(tmp_path, **arrays, n=np.array([2, 0]))
        assert truth.n.tolist() == [2, 0]
        np.testing.assert_array_equal(truth.centres[0], POSITIONS[0, :2])
        assert truth.centres[1].shape == (0, 2)
        other = truth.take(np.array([1]))
        assert other.n.tolist() == [0] and len(other.centres) == 1
    assert _truth(tmp_path) is None
    assert _truth(tmp_path, n=np.array([3, 1])).centres is None


@pytest.mark.parametrize(
    "arrays",
    [
        {"masks": MASKS[:1]},
        {"masks": MASKS.astype(float)},
        {"masks": -MASKS},
        {"positions": POSITIONS[..., :1]},
        {"n": np.array([1, -1])},
        {"n": np.array([1.0, 2.0])},
        {"masks": MASKS, "n": np.array([2, 1])},
    ],
)
def test_a_wrong_truth_is_refused(tmp_path, arrays):
    """Shapes and types that fit no images, and numbers that disagree, are refused."""
    with pytest.raises(ValueError, match=next(iter(arrays))):
        _truth(tmp_path, **arrays)


def test_photographs(tmp_path):
    """A JPEG is turned as its EXIF data say, and further pictures are previews."""
    image = np.zeros((16, 24, 3), np.uint8)
    image[:, :8] = 255
    exif = Image.Exif()
    exif[274] = 6  # it is turned by 90° for viewing
    Image.fromarray(image).save(tmp_path / "turned.jpg", exif=exif)
    turned = pictures.read_picture(tmp_path / "turned.jpg")
    assert turned.shape == (24, 16, 3) and turned[:7].min() > 200 > turned[9:].max()
    both = [Image.fromarray(image), Image.fromarray(255 - image)]
    both[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=both[1:])
    assert pictures.read_picture(tmp_path / "a.jpg")[:, :7].min() > 200


def test_colours_of_16_bits_are_refused(tmp_path):
    """Pillow would keep 8 of 16 bits, in other units than those of grey pictures."""
    rgb = np.arange(8 * 8 * 3, dtype=">u2").reshape(8, 24)

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + row.tobytes() for row in rgb)
    (tmp_path / "rgb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match="colours or an opacity of 16 bits"):
        pictures.read_picture(tmp_path / "rgb.png")


def test_values_of_rare_tiffs(tmp_path):
    """Unsigned values of 32 bits stay positive, and white may be 0."""
    path = tmp_path / "a.tif"
    for large in ([[1, 2**31 + 5]], [[1, -5]]):
        array = np.array(large, np.uint32 if min(large[0]) > 0 else np.int32)
        io.imsave(path, array, check_contrast=False)
        np.testing.assert_array_equal(pictures.read_picture(path)[..., 0], array)
    dark = np.array([[0, 65535, 1]], np.uint16)
    Image.fromarray(dark).save(path)
    entry = struct.pack("<HHL", 262, 3, 1)  # how the tag of black and white begins
    stored = path.read_bytes()
    path.write_bytes(stored.replace(entry + b"\1\0", entry + b"\0\0"))
    np.testing.assert_array_equal(pictures.read_picture(path)[..., 0], 65535 - dark)


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros((16, 24, 3)), r"images\[None\]"),
        (np.zeros((16, 24, 1)), r"images\[None\]"),
        (np.zeros((5, 3, 16, 24)), r"images.transpose\(0, 2, 3, 1\)"),
        (np.zeros((5, 16, 24, 4)), r"images\[..., :3\]"),
        (np.zeros(()), "first axis"),
        (np.array([None]), "plain numbers"),
    ],
)
def test_arrays_of_other_shapes(tmp_path, array, advice):
    """The advice makes images of the array, and scrambles no pixels."""
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=advice):
        pictures.find(tmp_path / "a.npy")


def test_hdf5_without_arrays(tmp_path):
    """Empty data sets, and arrays in groups, are not found at the top level."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.Empty("f")
        file["group/images"] = np.zeros((2, 8, 8))
    with pytest.raises(ValueError, match="no array at its top level"):
        pictures.find(tmp_path / "a.h5")
