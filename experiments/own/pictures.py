"""Reads pictures and arrays from files of the formats that people have.

Files are not trusted: arrays are read without pickle, and whatever is wrong with a file
becomes a ValueError that names it and says what to do.
"""

import collections
import pathlib
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import h5py
import numpy as np
from PIL import Image, ImageOps

from experiments.own import tfrecords

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Files of one picture each, by their suffixes."""

ARRAYS = (".npz", ".npy", ".h5", ".hdf5", ".tfrecord", ".tfrecords")
"""Files of many pictures."""

_OTHER_NAMES = {"images": "image", "masks": "mask"}  # of the multi-object data sets

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_GREY_MODES = ("1", "L", "LA")
_HIGH_MODES = ("I", "F", "I;16", "I;16B", "I;16L")
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # tags of TIFF

# These are what damaged files raise, found with files damaged at random. NumPy parses
# headers with Python's tokenizer, and zipfile raises RuntimeError for archives with a
# password or an unknown compression.
_READ_ERRORS = (
    *(OSError, ValueError, EOFError, SyntaxError, RuntimeError, MemoryError, KeyError),
    *(TypeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
    Image.DecompressionBombError,
)


class Pictures(NamedTuple):
    """Pictures of a file or folder, which are read one by one.

    Attributes:
        names: what each is called in messages and tables.
        read: maps an index to a picture [H, W, C] of any number type in the machine's
            byte order, C = 1 for grey and 3 for RGB.
        remark: what was left out of a folder, a sentence, or "".
    """

    names: tuple[str, ...]
    read: Callable[[int], np.ndarray]
    remark: str = ""


def find(path: str | pathlib.Path, most: int | None = None) -> Pictures:
    """Finds the pictures of a folder, of a file of one, or of a file of many.

    A folder's pictures are in order of name. A file of many holds an array, [N, H, W]
    or [N, H, W, C], which is its array `images` (or `image`) if it has several. At most
    so many of its pictures are read, from the start.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist: pass a file or folder that does.")
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() in PICTURES:
        return Pictures((path.name,), lambda index: read_picture(path))
    images = _images(path, most)
    names = tuple(f"{path.name}[{index}]" for index in range(len(images)))
    return Pictures(names, lambda index: images[index])


def _in_folder(folder):
    """Finds the pictures of a folder, and says what else is in it."""
    # A file that begins with a dot is hidden; macOS writes `._a.png` beside `a.png`.
    seen = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    files = [f for f in seen if f.suffix.lower() in PICTURES and f.is_file()]
    kinds = collections.Counter(
        "folders" if file.is_dir() else f"{file.suffix or 'nameless'} files"
        for file in seen
        if file not in set(files)
    )
    others = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    if not files:
        raise ValueError(
            f"the folder {folder} holds no pictures ({', '.join(PICTURES)})"
            f"{f', but {others}' if others else ''}: pass a folder that does, or a file"
            f" of many pictures ({', '.join(ARRAYS)})."
        )
    remark = f"{folder.resolve().name}: {others} are left out." if others else ""
    names = tuple(file.name for file in files)
    return Pictures(names, lambda index: read_picture(files[index]), remark)


def read_picture(file: pathlib.Path) -> np.ndarray:
    """Reads a file of one picture: [H, W, 1] or [H, W, 3], uint8 or what it stores."""
    try:
        with warnings.catch_warnings():
            # Too large a picture is refused by its size before it is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(file, formats=_FORMATS)
    except _READ_ERRORS as error:
        raise unreadable(file.name, error) from error
    with picture:
        # The further pictures of a photograph (MPO) are previews of the first one.
        if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
            raise ValueError(
                f"{file.name} holds {picture.n_frames} pictures, but one is expected:"
                " save each as a file of its own."
            )
        if picture.mode not in _HIGH_MODES and ";16" in str(picture.tile):
            raise ValueError(
                f"{file.name} has colours or an opacity of 16 bits, which can't be read"
                " from pictures: save it with 8 bits, in grey, or as an array (.npy)."
            )
        try:
            upright = ImageOps.exif_transpose(picture)
            if picture.mode in _HIGH_MODES:
                return _high_values(picture, np.asarray(upright))[..., None]
            pixels = np.asarray(upright.convert("RGBA"))
        except _READ_ERRORS as error:
            raise unreadable(file.name, error) from error
    if (pixels[..., 3] < 255).any():
        raise ValueError(
            f"{file.name} has transparent pixels, but every pixel needs a colour: save"
            " it on a black background."
        )
    return pixels[..., : 1 if picture.mode in _GREY_MODES else 3]


def _high_values(picture, pixels):
    """Returns values of more than 8 bits as the file means them, where Pillow errs."""
    pixels, tags = _native(pixels), getattr(picture, "tag_v2", {})
    kind = tags.get(_SAMPLE_FORMAT, 1)
    is_unsigned = (kind if isinstance(kind, int) else kind[0]) == 1
    if tags and pixels.dtype == np.int32 and is_unsigned:
        pixels = pixels.view(np.uint32)
    if tags.get(_PHOTOMETRIC) == 0 and pixels.dtype == np.uint16:  # white is 0
        pixels = ~pixels
    return pixels


def read_arrays(
    path: pathlib.Path, *wanted: str, most: int | None = None
) -> dict[str, np.ndarray]:
    """Reads arrays of numbers from a file by name: the wanted ones, or all it has.

    The only array of an .npy file is called `images`. Of each array, at most so many
    rows are read. Masks of several entities, [N, K, H, W] or [N, K, H, W, 1] with the
    background first, become labels, [N, H, W].
    """
    suffix = path.suffix.lower()
    if suffix not in ARRAYS:
        raise ValueError(
            f"{path.name} is no file of pictures: a picture ({', '.join(PICTURES)}), a"
            f" folder of them, or an array ({', '.join(ARRAYS)}) is expected."
        )
    try:
        arrays = _READERS.get(suffix, _read_numpy)(path, wanted, most)
    except _READ_ERRORS as error:
        raise unreadable(path.name, error) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "buif":
            raise ValueError(
                f"{path.name}: {name} holds values of type {array.dtype}, but plain"
                " numbers are expected: convert it, for example with"
                " images.astype('uint8')."
            )
    arrays = {name: _native(array) for name, array in arrays.items()}
    if (masks := arrays.get("masks")) is not None:
        arrays["masks"] = _labels(masks)
    return arrays


def _labels(masks):
    """Turns masks of several entities into labels; others stay as they are."""
    if masks.ndim > 3 and masks.shape[-1] == 1:
        masks = masks[..., 0]
    is_of_several = masks.ndim == 4 and masks.shape[1] > 1
    return tfrecords.labels_of(masks) if is_of_several else masks


def _read_numpy(path, wanted, most):
    with path.open("rb") as stream:
        content = np.load(stream, allow_pickle=False)
        if isinstance(content, np.ndarray):
            has_images = not wanted or "images" in wanted
            rows = content[:most] if content.ndim else content
            return {"images": rows} if has_images else {}
        names = _stored(wanted, content.files)
        arrays = {name: content[stored] for name, stored in names.items()}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError(f"not all of {', '.join(arrays)} are arrays")
    return {
        name: array[:most] if array.ndim else array for name, array in arrays.items()
    }


def _read_hdf5(path, wanted, most):
    with h5py.File(path) as file:
        sets = {k: v for k, v in file.items() if isinstance(v, h5py.Dataset)}
        names = [name for name, item in sets.items() if item.shape is not None]
        stored = {name: file[other] for name, other in _stored(wanted, names).items()}
        return {name: a[:most] if a.shape else a[()] for name, a in stored.items()}


def _read_tfrecords(path, wanted, most):
    return tfrecords.read(path, wanted or ("images", "masks"), most)


_READERS = {
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".tfrecord": _read_tfrecords,
    ".tfrecords": _read_tfrecords,
}


def _stored(wanted, names):
    """Maps the wanted names, or all, to the names that arrays have in a file."""
    if not wanted:
        return {name: name for name in names}
    choices = {name: (name, _OTHER_NAMES.get(name)) for name in wanted}
    return {
        name: next(other for other in others if other in names)
        for name, others in choices.items()
        if set(others) & set(names)
    }


def _images(path, most):
    """Reads the pictures of a file of many: [N, H, W, C], N at least 1."""
    arrays = read_arrays(path, "images", most=most) or read_arrays(path, most=most)
    if len(arrays) != 1:
        raise ValueError(
            f"{path.name} holds {', '.join(arrays) or 'no array'} at its top level, but"
            " one array named 'images' is expected: write it with"
            " numpy.savez('own.npz', images=...)."
        )
    (array,) = arrays.values()
    if array.ndim == 3 and array.shape[2] in (1, 3, 4):
        raise ValueError(
            f"{path.name} has the shape {array.shape}, as a single picture (H, W, C)"
            " has it, but several, (N, H, W, C), are expected: give it a first axis,"
            " images[None]."
        )
    images = array[..., None] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"{path.name} has the shape {array.shape}, but (N, H, W), (N, H, W, 1) or"
            f" (N, H, W, 3) is expected: {_advice(array.shape)}."
        )
    if not images.size:
        raise ValueError(f"{path.name} holds no images: put at least one into it.")
    return images


def _advice(shape):
    """Says how an array of pictures that has another shape gets the expected one."""
    if len(shape) == 4 and shape[1] in (1, 3):
        return "move the channels to the end, images.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and shape[3] == 4:
        return "leave the opacity out, images[..., :3]"
    return "give a single picture a first axis of length 1, and several one each"


def _native(array):
    """Returns an array in the machine's byte order; JAX takes no other."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def unreadable(name: str, error: Exception) -> ValueError:
    """Returns the error for a file that is damaged or not what its name says."""
    reason = " ".join(str(error).split()) or type(error).__name__
    advice = (
        "it is damaged, incomplete, or of a format or number type that is not read;"
        " write it again, or save it as a NumPy array (.npy) of plain numbers"
    )
    if isinstance(error, Image.DecompressionBombError):
        advice = "it is too large; cut it into parts"
    return ValueError(f"{name} cannot be read ({reason}): {advice}.")
