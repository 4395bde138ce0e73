"""Reads the user's own images from an `.npz` file or a folder of `.png` files.

Files are not trusted: arrays are read without pickle, and whatever is wrong with a file
becomes a ValueError that names it and says what to do.
"""

import hashlib
import pathlib
import tokenize
import warnings
import zipfile
import zlib

import numpy as np
from PIL import Image
from tqdm import auto as tqdm

_Shape = tuple[int, int, int]

_MIN_SIDE = 8
_MOST_OBJECTS = np.iinfo(np.int32).max
_GREY_MODES = ("1", "L", "LA")
_PNG_MODES = (*_GREY_MODES, "P", "RGB", "RGBA")

# These are what damaged files raise, found with files damaged at random. NumPy parses
# headers with Python's tokenizer, and zipfile raises RuntimeError for archives with a
# password or an unknown compression.
_READ_ERRORS = (
    *(OSError, ValueError, EOFError, SyntaxError, RuntimeError, MemoryError, KeyError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
    Image.DecompressionBombError,
)


def load_images(
    path: str | pathlib.Path, image_shape: _Shape | None = None, threshold: int = 0
) -> np.ndarray:
    """Reads black-and-white or saturated-colour images.

    Args:
        path: an `.npz` file (its array `images`, or the only one it has), or a folder
            of `.png` files, taken in order of name. Arrays are [N, H, W, C], or
            [N, H, W] for a grey model, of values 0 and 1 or 0 and 255.
        image_shape: (H, W, C), the images that a model takes. None finds it from the
            array, or from the first file of a folder: C is 1 for a file that is stored
            in grey, 3 for all others.
        threshold: the least of the values 0 to 255 that becomes 255; smaller ones
            become 0. Without a threshold (0), values must be binary.

    Returns:
        [N, H, W, C] uint8 of values 0 and 255, N at least 1.

    Raises:
        ValueError: if anything else is found. The message says what was found, what
            was expected and what to do.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist: pass a file or folder that does.")
    if path.is_dir():
        return _read_folder(path, image_shape, threshold)
    return _black_and_white(path.name, _read_archive(path, image_shape), threshold)


def fingerprint(images: np.ndarray) -> str:
    """Digests images of values 0 and 255, wherever and however they are stored."""
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.packbits(images.reshape(len(images), -1) > 0, axis=1))
    return digest.hexdigest()[:16]


def load_counts(path: str | pathlib.Path, num_images: int) -> np.ndarray | None:
    """Returns an archive's array `n`, [N] int32 numbers of objects, or None."""
    path = pathlib.Path(path)
    counts = None if path.is_dir() else _arrays(path, "n").get("n")
    if counts is None:
        return None
    whole = counts.shape == (num_images,) and counts.dtype.kind in "ui"
    if not (whole and ((counts >= 0) & (counts <= _MOST_OBJECTS)).all()):
        raise ValueError(
            f"{path.name}: n is {counts.dtype}{list(counts.shape)}, but {num_images}"
            f" whole numbers from 0 to {_MOST_OBJECTS} are expected, the objects of"
            " each image: write them so, or leave n out."
        )
    return counts.astype(np.int32)


def _read_folder(path, image_shape, threshold):
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")
    if not files:
        raise ValueError(
            f"the folder {path} holds no .png file: pass a folder of images, or an"
            " .npz file."
        )
    shape = image_shape or _png_shape(files[0])
    if image_shape is None:
        check_shape(shape)
    images = np.empty((len(files), *shape), np.uint8)
    progress = tqdm.tqdm(files, desc=path.name, unit=" images", leave=False)
    try:
        for index, file in enumerate(progress):
            images[index] = _read_png(file, shape, threshold)
    except ValueError as error:
        if image_shape:
            raise
        raise ValueError(
            f"{error} The first file gave the size {shape} (rows, columns, channels);"
            f" --config.model.image_shape='{shape}' sets another."
        ) from error
    return images


def check_shape(shape: _Shape) -> None:
    """Raises a ValueError for the shape of images that no model can be built for."""
    if len(shape) != 3 or not all(isinstance(side, int) for side in shape):
        raise ValueError(
            "model.image_shape must be three whole numbers, (rows, columns, channels):"
            f" got {shape!r}."
        )
    height, width, channels = shape
    if channels not in (1, 3) or min(height, width) < _MIN_SIDE:
        raise ValueError(
            f"images are {height} pixels high and {width} wide with {channels}"
            f" channels, but at least {_MIN_SIDE} x {_MIN_SIDE} with 1 (grey) or 3"
            " (RGB) are expected: arrays are (N, H, W) or (N, H, W, C)."
        )


def _arrays(path, *wanted):
    """Reads arrays of an `.npz` file: those of the wanted names, or all it has."""
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is no ZIP archive, as .npz files are")
            names = [name for name in wanted or archive.files if name in archive]
            arrays = {name: archive[name] for name in names}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError(f"not all of {', '.join(arrays)} are arrays")
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    return arrays


def _read_archive(path, image_shape):
    """Reads the images of an `.npz` file as [N, H, W, C], of any type."""
    if path.suffix.lower() != ".npz":
        raise ValueError(
            f"{path.name} is neither an .npz file nor a folder of .png files: save the"
            " images as one array with numpy.savez('own.npz', images=...)."
        )
    arrays = _arrays(path, "images") or _arrays(path)
    if len(arrays) != 1:
        raise ValueError(
            f"{path.name} holds {', '.join(arrays) or 'no array'}, but one array named"
            " 'images' is expected: write it with numpy.savez('own.npz', images=...)."
        )
    (array,) = arrays.values()
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"{path.name} holds values of type {array.dtype}, but images are plain"
            " numbers: convert them, for example with images.astype('uint8')."
        )
    shape, may_be_grey = array.shape, image_shape is None or image_shape[2] == 1
    if array.ndim == 3 and may_be_grey:
        array = array[..., None]
    if array.ndim != 4 or (image_shape and array.shape[1:] != tuple(image_shape)):
        expected = ", ".join(map(str, image_shape or ("H", "W", "C")))
        raise ValueError(
            f"{path.name} has the shape {shape}, but (N, {expected}) is expected:"
            " reshape or resize the images, and give a single one a first axis of"
            " length 1."
        )
    if len(array) < 1:
        raise ValueError(f"{path.name} holds no images: put at least one into it.")
    if image_shape is None:
        check_shape(array.shape[1:])
    return array


def _open_png(file):
    """Opens a PNG file and reads its header only."""
    try:
        with warnings.catch_warnings():
            # Too large a picture is refused by its size before it is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file, formats=["PNG"])
    except _READ_ERRORS as error:
        raise _unreadable(file, error) from error


def _png_shape(file):
    with _open_png(file) as picture:
        return picture.height, picture.width, 1 if picture.mode in _GREY_MODES else 3


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
                " channel are expected: save it as 8-bit grey or RGB."
            )
        try:
            pixels = np.asarray(picture.convert("RGBA"))
        except _READ_ERRORS as error:
            raise _unreadable(file, error) from error
    if (pixels[..., 3] < 255).any():
        raise ValueError(
            f"{file.name} has transparent pixels, but every pixel needs a colour: save"
            " it on a black background."
        )
    if channels == 1 and (pixels[..., :1] != pixels[..., 1:3]).any():
        raise ValueError(
            f"{file.name} is in colour, but this model takes grey images: convert it."
        )
    return _black_and_white(file.name, pixels[None, ..., :channels], threshold)[0]


def _unreadable(path, error):
    """Returns the error for a file that is damaged or not what its name says."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(
        f"{path.name} cannot be read ({reason}): it is damaged, incomplete or of"
        " another format; write it again."
    )


def _black_and_white(name, images, threshold):
    """Converts [N, H, W, C] to uint8 of 0 and 255.

    Without a threshold, the values must be 0 and 1 or 0 and 255, of any type.
    """
    if threshold:
        return np.where(images >= threshold, np.uint8(255), np.uint8(0))
    white = 255 if (images == 255).any() else 1
    expected = (images == 0) | (images == white)
    if not expected.all():
        index = tuple(int(i) for i in np.argwhere(~expected)[0])
        raise ValueError(
            f"{name} holds the value {images[index]} at {index} (image, row, column,"
            f" channel), but only 0 and 1, or 0 and 255, are expected: binarise the"
            f" images, for example with images > images.max() / 2, or train with"
            f" --config.data.threshold=T, which turns values of T and above into 255."
        )
    return (images > 0).astype(np.uint8) * np.uint8(255)
