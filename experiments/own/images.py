"""Reads the user's own images from a file or a folder into a checked array.

Files are not trusted: arrays are read without pickle, and shapes are checked before the
pixels are unpacked.
"""

import pathlib
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image
from tqdm import auto as tqdm

from experiments.own import array_files

# This is ten times the size of a test split in colour.
MAX_BYTES = 2**31

_MOST_OBJECTS = np.iinfo(np.int32).max
_GREY_MODES = ("1", "L", "LA")
_PNG_MODES = (*_GREY_MODES, "P", "RGB", "RGBA")


def load_images(
    path: str | pathlib.Path,
    image_shape: tuple[int, int, int],
    threshold: int = 0,
) -> np.ndarray:
    """Reads black-and-white or saturated-colour images for a model.

    Args:
        path: An `.npy` file, an `.npz` file (its array `images`, or the only one it
            has), a `.png` file, or a folder of `.png` files, taken in order of name.
            Arrays are [N, H, W, C], or [N, H, W] for a grey model, of values 0 and 1 or
            0 and 255.
        image_shape: (H, W, C), the images the model was trained on.
        threshold: The least of the values 0 to 255 that counts as 255; then
            values in between are allowed. 0 for none.

    Returns:
        [N, H, W, C] uint8 of values 0 and 255, N at least 1.

    Raises:
        ValueError: If anything else is found. The message says what was found, what
            was expected and what to do.
    """
    most_files = MAX_BYTES // int(np.prod(image_shape))
    return np.concatenate(list(read(path, image_shape, threshold, most_files)))


def read(
    path: str | pathlib.Path,
    image_shape: tuple[int, int, int],
    threshold: int,
    most_files: int,
) -> Iterator[np.ndarray]:
    """Reads images one after the other if they are in separate files.

    Args:
        path: See `load_images`.
        image_shape: (H, W, C) of every image.
        threshold: See `load_images`.
        most_files: A folder of more is refused.

    Returns:
        An iterator over uint8 arrays [n, H, W, C] of values 0 and 255: one image for
        each file of a folder, or the whole array of a file.

    Raises:
        ValueError: As `load_images`, here or from the iterator.
    """
    path = _existing(path)
    if path.is_dir():
        files = _png_files(path)
        if len(files) > most_files:
            raise ValueError(
                f"the folder {path} holds {len(files)} images, more than the"
                f" {most_files} that are read at once: split it into smaller folders."
            )
        progress = tqdm.tqdm(files, desc=f"reading {path}", unit=" files", delay=2.0)
        return (_read_png(file, image_shape, threshold)[None] for file in progress)
    if path.suffix.lower() == ".png":
        return iter([_read_png(path, image_shape, threshold)[None]])
    return iter([_read_array(path, image_shape, threshold)])


def find_shape(path: str | pathlib.Path) -> tuple[int, int, int]:
    """Finds the shape of images without reading their pixels.

    Args:
        path: See `load_images`.

    Returns:
        (H, W, C) of an array, or of the first file of a folder: C is 1 for a file that
        is stored in grey, 3 for all others.

    Raises:
        ValueError: As `load_images`, and for arrays of another number of axes.
    """
    path = _existing(path)
    if path.is_dir() or path.suffix.lower() == ".png":
        with _open_png(_png_files(path)[0] if path.is_dir() else path) as picture:
            channels = 1 if picture.mode in _GREY_MODES else 3
            return picture.height, picture.width, channels
    shape, dtype = array_files.header(path.name, array_files.images_in(path))
    _check_numbers(path.name, dtype)
    if len(shape) not in (3, 4):
        raise ValueError(
            f"{path.name} has the shape {shape}, but images are an array (N, H, W) or"
            f" (N, H, W, C): reshape them."
        )
    height, width, channels = (*shape[1:], 1)[:3]
    return int(height), int(width), int(channels)


def load_counts(path: str | pathlib.Path, num_images: int) -> np.ndarray | None:
    """Reads how many objects the images of an archive show, if it says so.

    Args:
        path: See `load_images`.
        num_images: N, the number of images in it.

    Returns:
        The archive's array `n`, [N] int32, or None without one.

    Raises:
        ValueError: If the array `n` is not N counts.
    """
    path = _existing(path)
    if path.is_dir() or path.suffix.lower() != ".npz":
        return None
    if "n" not in array_files.members(path):
        return None
    name, open_stream = f"{path.name}: n", array_files.member(path, "n")
    shape, dtype = array_files.header(name, open_stream)
    if shape != (num_images,) or dtype.kind not in "ui":
        raise ValueError(
            f"{name} is {dtype}{list(shape)}, but {num_images} whole numbers are"
            f" expected, the objects of each image: write them so, or leave n out."
        )
    counts = array_files.load(name, open_stream)
    if (counts < 0).any():
        raise ValueError(f"{name} holds {counts.min()}: no count is below 0.")
    if (counts > _MOST_OBJECTS).any():
        raise ValueError(f"{name} holds {counts.max()}: no image has so many objects.")
    return counts.astype(np.int32)


def _existing(path):
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist: pass a file or folder that does.")
    return path


def _read_array(path, image_shape, threshold):
    """Reads the array of images in a file after checking its header."""
    name, open_stream = path.name, array_files.images_in(path)
    _check_header(name, *array_files.header(name, open_stream), image_shape)
    array = array_files.load(name, open_stream).reshape(-1, *image_shape)
    return _black_and_white(name, array, threshold)


def _check_numbers(name, dtype):
    if dtype.kind not in "buif":
        raise ValueError(
            f"{name} holds values of type {dtype}, but images are plain numbers:"
            f" convert them, for example with images.astype('uint8')."
        )


def _check_header(name, shape, dtype, image_shape):
    """Refuses arrays that are not numbers, not images of this size, or too many."""
    height, width, channels = image_shape
    _check_numbers(name, dtype)
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
            f" that are read at once: split it into smaller files, or save them as a"
            f" folder of .png files."
        )


def _png_files(path):
    """Lists the PNG files of a folder in order of their names."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")
    if not files:
        raise ValueError(
            f"the folder {path} holds no .png file: pass a folder of images, or an"
            f" .npz file."
        )
    return files


def _open_png(file):
    """Opens a PNG file and reads its header only."""
    try:
        with warnings.catch_warnings():
            # Too large a picture is refused by its size before it is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file, formats=["PNG"])
    except (*array_files.READ_ERRORS, Image.DecompressionBombError) as error:
        raise array_files.unreadable(file.name, error) from error


def _read_png(file, image_shape, threshold):
    """Reads one PNG file as [H, W, C] of 0 and 255."""
    height, width, channels = image_shape
    with _open_png(file) as picture:
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
        except array_files.READ_ERRORS as error:
            raise array_files.unreadable(file.name, error) from error
    if (pixels[..., 3] < 255).any():
        raise ValueError(
            f"{file.name} has transparent pixels, but every pixel needs a colour: save"
            f" it on a black background."
        )
    if channels == 1 and (pixels[..., :1] != pixels[..., 1:3]).any():
        raise ValueError(
            f"{file.name} is in colour, but this model takes grey images: convert it."
        )
    return _black_and_white(file.name, pixels[None, ..., :channels], threshold)[0]


def _black_and_white(name, images, threshold):
    """Converts [N, H, W, C] to uint8 of 0 and 255.

    Without a threshold, the values must be 0 and 1 or 0 and 255, of any type.
    """
    if threshold:
        if images.dtype != np.uint8:
            raise ValueError(
                f"{name} holds values of type {images.dtype}, but a threshold is for"
                f" uint8, 0 to 255: convert them, or binarise them yourself."
            )
        return np.where(images >= threshold, np.uint8(255), np.uint8(0))
    white = 255 if (images == 255).any() else 1
    expected = (images == 0) | (images == white)
    if not expected.all():
        index = tuple(int(i) for i in np.argwhere(~expected)[0])
        raise ValueError(
            f"{name} holds the value {images[index]} at {index} (image, row, column,"
            f" channel), but only 0 and 1, or 0 and 255, are expected: binarise the"
            f" images, for example with images > images.max() / 2, or train with"
            f" --config.data.threshold=T, from which of 0 to 255 on a value is 255."
        )
    return (images > 0).astype(np.uint8) * np.uint8(255)
