"""Folders of released models, and the checksums that guard files against damage.

A released model is a folder with weights, config, report, card and checksums. The
checksums are SHA-256, in the format that the command `sha256sum` writes and checks;
checkpoints of training runs have them too.
"""

import hashlib
import json
import pathlib
from fnmatch import fnmatch
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
REPORT = "report.json"
CARD = "README.md"
CHECKSUMS = "SHA256SUMS"
_OTHER_REPORTS = "report_*.json"


class Released(NamedTuple):
    """A released model.

    Attributes:
        tensors: its variables by their paths, `params/location_net/...`.
        config: the whole config of its training run, as JSON holds it.
        report: the report of its evaluation, as JSON holds it.
        card: a description in Markdown.
        other_reports: reports of the models of other seeds, which are not released.
    """

    tensors: dict[str, np.ndarray]
    config: dict[str, Any]
    report: dict[str, Any]
    card: str
    other_reports: tuple[dict[str, Any], ...] = ()


def write(folder: pathlib.Path, released: Released) -> None:
    """Writes a model's folder.

    The checksums are written last; without them a folder does not count as a model.
    """
    files = {
        WEIGHTS: safetensors.numpy.save(released.tensors),
        CONFIG: _to_json(released.config),
        REPORT: _to_json(released.report),
        CARD: released.card.encode(),
    }
    for number, report in enumerate(released.other_reports, start=2):
        files[f"report_{number}.json"] = _to_json(report)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKSUMS).unlink(missing_ok=True)
    for old in folder.glob(_OTHER_REPORTS):
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / CHECKSUMS).write_bytes(folder_checksums(folder).encode())


def read(folder: pathlib.Path) -> Released:
    """Reads a model's folder after checking every file against its checksum.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not the one that was released.
    """
    try:
        expected = _expected(folder)
        others = [name for name in expected if fnmatch(name, _OTHER_REPORTS)]
        for name in (WEIGHTS, CONFIG, REPORT, CARD, *others):
            digest, wanted = _digest(folder / name), expected.get(name, "none for it")
            if digest != wanted:
                raise ValueError(
                    f"{folder / name} is not the file that was released: its SHA-256 is"
                    f" {digest}, but {CHECKSUMS} has {wanted}. {_REPAIR}"
                )
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error.filename} is missing. {_REPAIR}") from error
    return Released(
        tensors=safetensors.numpy.load_file(folder / WEIGHTS),
        config=json.loads((folder / CONFIG).read_bytes()),
        report=json.loads((folder / REPORT).read_bytes()),
        card=(folder / CARD).read_bytes().decode(),
        other_reports=tuple(json.loads((folder / o).read_bytes()) for o in others),
    )


def folder_checksums(folder: pathlib.Path) -> str:
    """Computes the content of a folder's file `CHECKSUMS`.

    Returns:
        A line for each file in and below the folder except `CHECKSUMS` itself.
    """
    return "".join(
        f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and CHECKSUMS not in path.name
    )


def check_folder(folder: pathlib.Path) -> None:
    """Compares the files of a folder with their checksums, if it has checksums.

    Files without a checksum are ignored.

    Raises:
        ValueError: if a file is missing or has changed; the message names the first.
        OSError: if a file can't be read.
    """
    if not (folder / CHECKSUMS).exists():
        return
    expected = _expected(folder)
    if not expected:
        raise ValueError(f"its {CHECKSUMS} is empty")
    for name, wanted in expected.items():
        if not (folder / name).is_file():
            raise ValueError(f"its file {name} is missing")
        if _digest(folder / name) != wanted:
            raise ValueError(
                f"its file {name} is damaged: the SHA-256 is not the one in {CHECKSUMS}"
            )


_REPAIR = "Install lavae_jax again, or restore this folder with git in a clone."


def _expected(folder):
    """Reads checksums by file name; a malformed line gives a name that no file has."""
    text = (folder / CHECKSUMS).read_text(encoding="utf-8", errors="replace")
    parts = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in parts}


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_json(value):
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
