"""SHA-256 checksums of files, as the command `sha256sum` writes and checks them."""

import hashlib
import pathlib
from collections.abc import Mapping

NAME = "SHA256SUMS"
"""The file in a folder that holds the checksums of its other files."""


def digest(content: bytes) -> str:
    """The checksum of a file's content."""
    return hashlib.sha256(content).hexdigest()


def of_folder(folder: pathlib.Path) -> dict[str, str]:
    """The checksums of all files in and below a folder, but for `NAME` itself."""
    return {
        path.relative_to(folder).as_posix(): _of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and NAME not in path.name
    }


def to_text(digests: Mapping[str, str]) -> str:
    """Checksums by name as the lines of a file `NAME`."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def from_text(text: str) -> dict[str, str]:
    """What `to_text` has written; lines that are none become names of no file."""
    parts = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in parts}


def check_folder(folder: pathlib.Path) -> None:
    """Compares the files of a folder with their checksums, where it has some.

    Files that came later do not matter.

    Raises:
        ValueError: naming the first file that is missing or another one.
        OSError: if a file can't be read.
    """
    path = folder / NAME
    if not path.exists():
        return
    expected = from_text(path.read_text(encoding="utf-8", errors="replace"))
    if not expected:
        raise ValueError(f"its {NAME} is empty")
    for name, wanted in expected.items():
        if not (folder / name).is_file():
            raise ValueError(f"its file {name} is missing")
        if _of_file(folder / name) != wanted:
            raise ValueError(
                f"its file {name} is damaged: the SHA-256 is not the one in {NAME}"
            )


def _of_file(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
