"""Reads arrays in NumPy's formats from files that are not trusted.

Arrays are read without pickle, and a header can be read before the rest is unpacked.
Whatever is wrong with a file becomes a ValueError that names it.
"""

import contextlib
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO

import numpy as np

Open = Callable[[], AbstractContextManager[BinaryIO]]
"""A function that opens an array in NumPy's format at its start."""

READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that damaged files raise, found with files damaged at random. NumPy parses
headers with Python's tokenizer; zipfile raises RuntimeError, or a subclass of it, for
archives with a password or an unknown compression."""


def images_in(path: pathlib.Path) -> Open:
    """Finds the array of images in an `.npy` or `.npz` file."""
    if path.suffix.lower() == ".npy":
        return lambda: path.open("rb")
    if path.suffix.lower() != ".npz":
        raise ValueError(
            f"{path.name} is neither .npy, .npz, .png nor a folder of .png files: save"
            f" the images as one array with numpy.savez('own.npz', images=...)."
        )
    names = members(path)
    if "images" in names:
        names = ["images"]
    if len(names) != 1:
        raise ValueError(
            f"{path.name} holds {', '.join(names) or 'no array'}, but one array named"
            f" 'images' is expected: write it with numpy.savez('own.npz', images=...)."
        )
    return member(path, names[0])


def members(path: pathlib.Path) -> list[str]:
    """Lists the names of the arrays in an `.npz` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        reason = ValueError("it is no whole ZIP archive, as .npz files are")
        raise unreadable(path.name, reason) from error
    except READ_ERRORS as error:
        raise unreadable(path.name, error) from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def member(path: pathlib.Path, name: str) -> Open:
    """Finds an array by its name in an `.npz` file."""

    @contextlib.contextmanager
    def open_member():
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            yield stream

    return open_member


def header(name: str, open_stream: Open) -> tuple[tuple[int, ...], np.dtype]:
    """Reads an array's shape and type alone; the file is called `name` in errors."""
    try:
        with open_stream() as stream:
            return _read_header(stream)
    except READ_ERRORS as error:
        raise unreadable(name, error) from error


def load(name: str, open_stream: Open) -> np.ndarray:
    """Reads an array, which must not hold pickled objects."""
    try:
        with open_stream() as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except READ_ERRORS as error:
        raise unreadable(name, error) from error


def unreadable(name: str, error: Exception) -> ValueError:
    """Returns the error for a file that is damaged or not what its name says."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(
        f"{name} cannot be read ({reason}): it is damaged, incomplete or of another"
        f" format; write it again."
    )


def _read_header(stream):
    """Reads (shape, dtype) at the start of a stream in NumPy's format."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        # Later versions are for structured types, which no image has, and promise
        # headers of up to 4 GB.
        raise ValueError(f"format version {version} is not that of a plain array")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    return shape, dtype
