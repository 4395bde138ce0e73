"""Files that are no images for a model of multi-dSprites, and what is said of them."""

import io
import os
import pickle
import zipfile

import numpy as np
from PIL import Image

_SHAPE = (64, 64, 3)


class _Malice:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("loaded",)


def _npy(images):
    stream = io.BytesIO()
    np.save(stream, images)
    return stream.getvalue()


def _npz(**members):
    """An archive of members as they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def _png(picture):
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _header(shape):
    """The start of an array file, and no array."""
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def _long_header():
    """Promises a header of 4 GB, as format version 2 can."""
    return b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(99)


_BLACK = np.zeros((2, *_SHAPE), np.uint8)
_OBJECTS = np.array([_Malice()], object)

IMAGES = {
    "grey pixels": ("own.npy", _npy(_BLACK + 0.5), "the value 0.5 at (0, 0, 0, 0)"),
    "NaN": ("own.npy", _npy(np.full_like(_BLACK, np.nan, float)), "the value nan at"),
    "a wrong size": ("own.npy", _npy(_BLACK[:, :32]), "takes (N, 64, 64, 3)"),
    "wrong channels": ("own.npy", _npy(_BLACK[..., :1]), "takes (N, 64, 64, 3)"),
    "one image without its axis": (
        "own.npy",
        _npy(_BLACK[0]),
        "first axis of length 1",
    ),
    "no images": ("own.npy", _npy(_BLACK[:0]), "holds no images"),
    "words": ("own.npy", _npy(np.full(_BLACK.shape, "x")), "values of type <U1"),
    "a picture of another size": ("a.png", _png(Image.new("RGB", (9, 8))), "9 pixels"),
    "a transparent picture": (
        "a.png",
        _png(Image.new("RGBA", (64, 64))),
        "has transparent pixels",
    ),
    "a grey picture": ("a.png", _png(Image.new("L", (64, 64), 77)), "the value 77"),
    "a truncated array": ("own.npy", _npy(_BLACK)[:-9], "cannot be read"),
    "a truncated archive": (
        "own.npz",
        _npz(images=_npy(_BLACK))[:-9],
        "(it is no whole ZIP archive, as .npz files are): ",
    ),
    "a truncated picture": (
        "a.png",
        _png(Image.new("RGB", (64, 64)))[:-30],
        "cannot be read",
    ),
    "something else": ("own.npz", b"plain words", "(it is no whole ZIP archive, as"),
    "an unknown format": ("own.jpg", b"", "neither .npy, .npz, .png nor a folder"),
    "an archive of several arrays": (
        "own.npz",
        _npz(a=_npy(_BLACK), b=_npy(_BLACK)),
        "holds a, b, but one array named 'images' is expected",
    ),
    "an empty archive": ("own.npz", _npz(), "holds no array"),
    "a pickle in an array": ("own.npy", _npy(_OBJECTS), "values of type object"),
    "a pickle in an archive": (
        "own.npz",
        _npz(images=_npy(_OBJECTS)),
        "values of type object",
    ),
    "a pickle by another name": ("own.npy", pickle.dumps(_Malice()), "cannot be read"),
    "a terabyte by its header": (
        "own.npz",
        _npz(images=_header((10**8, *_SHAPE))),
        "declares 100000000 images",
    ),
    "a header of 4 GB": ("own.npz", _npz(images=_long_header()), "version (2, 0)"),
}
"""By what they are: name, content, and part of the message."""
