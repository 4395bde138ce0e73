"""Writes files so that a kill, a power cut or a full disk leaves none half written.

Where the file system refuses, these functions raise an OSError.
"""

import contextlib
import errno
import itertools
import os
import pathlib
import tempfile
from collections.abc import Iterator
from concurrent import futures
from typing import TextIO

from lavae_jax import released


def write(path: pathlib.Path, text: str) -> None:
    """Writes a text; the file appears, or changes, under its name once complete."""
    unfinished = path.with_name(f".{path.name.removeprefix('.')}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    sync(unfinished)
    unfinished.replace(path)
    sync(path.parent)


@contextlib.contextmanager
def finished_at_the_end(path: pathlib.Path) -> Iterator[TextIO]:
    """Opens a table for writing; `table.csv` is `table.unfinished.csv` until the end.

    Names of files that are not UTF-8 are written as the system has them.
    """
    unfinished = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    encoding = {"encoding": "utf-8", "errors": "surrogateescape"}
    with unfinished.open("w", newline="", **encoding) as file:
        yield file
    unfinished.replace(path)


def sync(path: pathlib.Path) -> None:
    """Waits until the disk holds a file's content, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems have nothing to wait for in a folder.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def make_sure_of_room(folder: pathlib.Path, num_bytes: int) -> None:
    """Makes sure that a folder can take `num_bytes`, in a single file if need be.

    Asked beforehand, the system says in one sentence what is missing: a right, space, a
    quota, or a limit on the size of a file.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, num_bytes)


def set_aside(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Moves a file or folder into a folder, which is made if it does not exist."""
    folder.mkdir(exist_ok=True)
    names = (f"{path.name}-{number}" for number in itertools.count())
    path.rename(next(folder / name for name in names if not (folder / name).exists()))


def add_checksums(folder: pathlib.Path) -> None:
    """Writes the checksums of a folder's files into it, and waits for the disk."""
    path = folder / released.CHECKSUMS
    if not path.exists():
        with futures.ThreadPoolExecutor() as pool:
            # Syncing all of them at once takes little longer than one.
            list(pool.map(sync, [*folder.rglob("*"), folder.parent]))
        write(path, released.folder_checksums(folder))
