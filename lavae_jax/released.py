"""The folder of a released model: weights, config, report, card and their checksums."""

import json
import pathlib
from fnmatch import fnmatch
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from lavae_jax import checksums

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
REPORT = "report.json"
CARD = "README.md"
CHECKSUMS = checksums.NAME
_OTHER_REPORTS = "report_*.json"


class Released(NamedTuple):
    """A released model.

    Attributes:
        tensors: its variables by their paths, `params/location_net/...`.
        config: the whole config of its training run, as JSON holds it.
        report: of its evaluation, as JSON holds it.
        card: what it is, Markdown.
        other_reports: of models trained alike from other seeds, which are not released.
    """

    tensors: dict[str, np.ndarray]
    config: dict[str, Any]
    report: dict[str, Any]
    card: str
    other_reports: tuple[dict[str, Any], ...] = ()


def write(folder: pathlib.Path, released: Released) -> None:
    """Writes a model's folder; the checksums come last, and only then is it one.

    Raises:
        OSError: if the file system refuses.
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
    digests = {name: checksums.digest(content) for name, content in files.items()}
    (folder / CHECKSUMS).write_bytes(checksums.to_text(digests).encode())


def read(folder: pathlib.Path) -> Released:
    """Reads a model's folder after checking every file against its checksum.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not the one that was released.

    >>> from lavae_jax import pretrained, released
    >>> contents = released.read(pretrained.FOLDER / "multi_dsprites")
    >>> contents.card.splitlines()[0], contents.config["model"]["max_objects"]
    ('# multi_dsprites', 10)
    """
    expected = checksums.from_text(_read(folder / CHECKSUMS).decode(errors="replace"))
    others = [name for name in expected if fnmatch(name, _OTHER_REPORTS)]
    names = (WEIGHTS, CONFIG, REPORT, CARD, *others)
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
        other_reports=tuple(json.loads(files[name]) for name in others),
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
