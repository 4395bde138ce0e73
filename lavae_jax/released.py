"""The folder of a released model: weights, config, reports, card, their checksums."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from lavae_jax import checksums

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
REPORT = "report.json"
OTHER_SEEDS = "other_seeds.json"
CARD = "README.md"
CHECKSUMS = checksums.NAME


class Released(NamedTuple):
    """A released model.

    Attributes:
        tensors: its variables by their paths, `params/location_net/...`.
        config: the whole config of its training run, as JSON holds it.
        report: of its evaluation, as JSON holds it.
        card: what it is, Markdown.
        other_seeds: reports of runs that differ in their seed alone, whose weights are
            not here.
    """

    tensors: dict[str, np.ndarray]
    config: dict[str, Any]
    report: dict[str, Any]
    card: str
    other_seeds: tuple[dict[str, Any], ...] = ()


def write(folder: pathlib.Path, released: Released) -> None:
    """Writes a model's folder; the checksums come last, and only then is it one.

    Raises:
        OSError: if the file system refuses.
    """
    files = {
        WEIGHTS: safetensors.numpy.save(released.tensors),
        CONFIG: _to_json(released.config),
        REPORT: _to_json(released.report),
        OTHER_SEEDS: _to_json(released.other_seeds),
        CARD: released.card.encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKSUMS).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: checksums.digest(content) for name, content in files.items()}
    (folder / CHECKSUMS).write_bytes(checksums.to_text(digests).encode())


def read(folder: pathlib.Path) -> Released:
    """Reads a model's folder after checking every file against its checksum.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not the one that was released.
    """
    expected = checksums.from_text(_read(folder / CHECKSUMS).decode(errors="replace"))
    names = (WEIGHTS, CONFIG, REPORT, OTHER_SEEDS, CARD)
    files = {name: _read(folder / name) for name in names}
    for name, content in files.items():
        found = checksums.digest(content)
        wanted = expected.get(name, "no line of it")
        if found != wanted:
            raise ValueError(
                f"{folder / name} is not the file that was released: its SHA-256 is"
                f" {found}, but {CHECKSUMS} has {wanted}. {_REPAIR}"
            )
    return Released(
        tensors=safetensors.numpy.load(files[WEIGHTS]),
        config=json.loads(files[CONFIG]),
        report=json.loads(files[REPORT]),
        card=files[CARD].decode(),
        other_seeds=tuple(json.loads(files[OTHER_SEEDS])),
    )


_REPAIR = (
    "Install lavae_jax again, or restore this folder with git where it is a clone."
)


def _read(path):
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing. {_REPAIR}") from error


def _to_json(value):
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
