"""The user's own images, from a file or a folder to a checked array.

A file from elsewhere is data to look at, never code to run or memory to fill: arrays
are read without pickle, and shapes are checked before the pixels are unpacked.
"""

import contextlib
import pathlib
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO

import numpy as np
from PIL import Image

# Ten times the images of a test split of this size, in colour.
MAX_BYTES = 2**31

# What damaged files raise, found with files damaged at random. NumPy parses headers
# with Python's own tokenizer; zipfile raises RuntimeError (of which NotImplementedError
# is one) for archives with a password or an unknown compression.
_READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


def load_images(
    path: str | pathlib.Path, image_shape: tuple[int, int, int]
) -> np.ndarray:
    """Reads black-and-white or saturated-colour images for a model.

    Args:
      path: An `.npy` file, an `.npz` file (its array `images`, or the only one it
        has), a `.png` file, or a folder of `.png` files, taken in order of name.
        Arrays are [N, H, W, C], or [N, H, W] for a grey model, of values 0 and 1 or 0
        and 255.
      image_shape: (H, W, C), the images the model was trained on.

    Returns:
      [N, H, W, C] uint8 of values 0 and 255, N at least 1.

    Raises:
      ValueError: If anything else is found: the message says what, what was expected
        and what to do.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist: pass a file or folder that does.")
    if path.is_dir():
        return _read_folder(path, image_shape)
    if path.suffix.lower() == ".npy":
        return _read_array(path.name, lambda: path.open("rb"), image_shape)
    if path.suffix.lower() == ".npz":
        return _read_archive(path, image_shape)
    if path.suffix.lower() == ".png":
        return _read_png(path, image_shape)[None]
    raise ValueError(
        f"{path.name} is neither .npy, .npz, .png nor a folder of .png files: save the"
        f" images as one array with numpy.savez('own.npz', images=...)."
    )


def _read_archive(path, image_shape):
    """The images of an `.npz` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
    except _READ_ERRORS as error:
        raise _unreadable(path.name, error) from error
    if "images.npy" in names:
        names = ["images.npy"]
    if len(names) != 1:
        held = ", ".join(name.removesuffix(".npy") for name in names) or "no array"
        raise ValueError(
            f"{path.name} holds {held}, but one array named 'images' is expected:"
            f" write it with numpy.savez('own.npz', images=...)."
        )

    @contextlib.contextmanager
    def open_member():
        with zipfile.ZipFile(path) as archive, archive.open(names[0]) as stream:
            yield stream

    return _read_array(path.name, open_member, image_shape)


def _read_array(
    name: str,
    open_stream: Callable[[], AbstractContextManager[BinaryIO]],
    image_shape: tuple[int, int, int],
) -> np.ndarray:
    """Reads an array in NumPy's format once its header has proved harmless."""
    try:
        with open_stream() as stream:
            shape, dtype = _read_header(stream)
    except _READ_ERRORS as error:
        raise _unreadable(name, error) from error
    _check_header(name, shape, dtype, image_shape)
    try:
        with open_stream() as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except _READ_ERRORS as error:
        raise _unreadable(name, error) from error
    return _black_and_white(name, array.reshape(-1, *image_shape))


def _read_header(stream):
    """(shape, dtype) from the start of a stream in NumPy's format."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        # Later versions are for structured types, which no image has, and promise
        # headers of up to 4 GB.
        raise ValueError(f"format version {version} is not that of a plain array")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    return shape, dtype


def _check_header(name, shape, dtype, image_shape):
    """Refuses arrays that are not numbers, not images of this size, or too many."""
    height, width, channels = image_shape
    if dtype.kind not in "buif":
        raise ValueError(
            f"{name} holds values of type {dtype}, but images are plain numbers:"
            f" convert them, for example with images.astype('uint8')."
        )
    grey = channels == 1 and tuple(shape[1:]) == (height, width)
    if not grey and tuple(shape[1:]) != image_shape:
        raise ValueError(
            f"{name} has the shape {shape}, but this model takes"
            f" (N, {height}, {width}, {channels}): reshape or resize the images, and"
            f" give a single one a first axis of length 1."
        )
    if shape[0] < 1:
        raise ValueError(f"{name} holds no images: put at least one into it.")
    limit = MAX_BYTES // (height * width * channels * dtype.itemsize)
    if shape[0] > limit:
        raise ValueError(
            f"{name} declares {shape[0]} images, more than the {limit} of type {dtype}"
            f" that are read at once: split it into smaller files."
        )


def _read_folder(path, image_shape):
    """All PNG files of a folder in order of their names."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")
    if not files:
        raise ValueError(
            f"the folder {path} holds no .png file: pass a folder of images, or an"
            f" .npz file."
        )
    limit = MAX_BYTES // int(np.prod(image_shape))
    if len(files) > limit:
        raise ValueError(
            f"the folder {path} holds {len(files)} images, more than the {limit} that"
            f" are read at once: split it into smaller folders."
        )
    return np.stack([_read_png(file, image_shape) for file in files])


def _read_png(file, image_shape):
    """One PNG file as [H, W, C] of 0 and 255."""
    height, width, channels = image_shape
    try:
        with warnings.catch_warnings():
            # Too large a picture is refused below, by its size.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(file, formats=["PNG"])
    except (*_READ_ERRORS, Image.DecompressionBombError) as error:
        raise _unreadable(file.name, error) from error
    with picture:
        if picture.size != (width, height):
            raise ValueError(
                f"{file.name} is {picture.width} pixels wide and {picture.height}"
                f" high, but this model takes {width} x {height}: resize it."
            )
        if picture.mode not in _PNG_MODES:
            raise ValueError(
                f"{file.name} is stored in the mode {picture.mode}, but 8 bits per"
                f" channel are expected: save it as 8-bit grey or RGB."
            )
        try:
            pixels = np.asarray(picture.convert("RGBA"))
        except _READ_ERRORS as error:
            raise _unreadable(file.name, error) from error
    if (pixels[..., 3] < 255).any():
        raise ValueError(
            f"{file.name} has transparent pixels, but every pixel needs a colour: save"
            f" it on a black background."
        )
    if channels == 1 and (pixels[..., :1] != pixels[..., 1:3]).any():
        raise ValueError(
            f"{file.name} is in colour, but this model takes grey images: convert it."
        )
    return _black_and_white(file.name, pixels[None, ..., :channels])[0]


def _black_and_white(name, images):
    """[N, H, W, C] of 0/1 or 0/255 in any type as uint8 of 0/255, values checked."""
    white = 255 if (images == 255).any() else 1
    expected = (images == 0) | (images == white)
    if not expected.all():
        index = tuple(int(i) for i in np.argwhere(~expected)[0])
        raise ValueError(
            f"{name} holds the value {images[index]} at {index} (image, row, column,"
            f" channel), but only 0 and 1, or 0 and 255, are expected: binarise the"
            f" images, for example with images > images.max() / 2."
        )
    return (images > 0).astype(np.uint8) * np.uint8(255)


def _unreadable(name, error):
    """A ValueError for a file that is damaged or not what its name says."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(
        f"{name} cannot be read ({reason}): it is damaged, incomplete or of another"
        f" format; write it again."
    )
