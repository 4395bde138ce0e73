"""The report of an evaluation: its contents, its file, and its tables."""

import json
import math
import pathlib
import typing
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import files
from lavae_jax.likelihood import bits_per_dimension
from lavae_jax.metrics import Estimate, LocationError


class Bound(NamedTuple):
    """An upper bound on -log p(x), in nats per image."""

    num_samples: int  # K
    negative_log_p: Estimate
    effective_samples: float  # (sum w)^2 / sum w^2, mean over images


class ObjectBound(NamedTuple):
    """An upper bound from objects drawn one by one, `lavae_jax.object_draws`."""

    num_samples: int  # draws of the locations
    num_candidates: int  # draws of the appearance of each object, for each of them
    negative_log_p: Estimate  # nats per image


class Floor(NamedTuple):
    """The least -log p(x) possible on this data, in nats per image."""

    entropy: float  # of the data
    floor: float  # of LAVAE: a uniform prior over sites; of the baseline: the entropy
    distance: float  # of the tightest bound from that floor


class Segments(NamedTuple):
    """How inferred objects compare with the true ones, pixel by pixel."""

    apart_accuracy: float  # of counts, of images where no two objects touch
    recall: float  # share of the true objects that are found, with an IoU of 0.5
    precision: float  # share of the inferred objects that are such
    ari: Estimate
    fg_ari: Estimate  # over images of two objects or more
    fg_ari_any_object: Estimate  # over images of one object or more


class Truth(NamedTuple):
    """Compares inferred scenes with the true ones; None is what is not known."""

    count_accuracy: float
    confusion: np.ndarray  # [M+1, M+1] images, true counts in rows
    count_nats: float  # mean -log p(n) of the true counts, under the learned p(n)
    location: LocationError | None  # pixels
    segments: Segments | None
    # Counting connected lit pixels instead, where pixels are lit or not.
    components_accuracy: float | None
    components_by_colour_accuracy: float | None  # None for grey images, too


class SplitReport(NamedTuple):
    """Results on one set of images; None for what is unknown or the model lacks."""

    name: str
    num_images: int
    bounds: tuple[Bound, ...]
    object_bound: ObjectBound | None  # None for the baseline, too
    counts: np.ndarray | None  # [M+1] images by inferred count; None for the baseline
    truth: Truth | None  # None for the baseline, too
    floor: Floor | None


class Report(NamedTuple):
    """All results of an evaluation, and what is needed to measure them again."""

    dataset: str
    data_version: str | None  # None for other images than the run's
    step: int
    seed: int
    noise: float  # ε of binary pixels, or the standard deviation of others
    config: dict[str, Any]
    versions: dict[str, str]
    splits: tuple[SplitReport, ...]


def plain(value: Any) -> Any:
    """Converts named tuples to dicts, arrays to lists and NaN to None, for JSON."""
    if hasattr(value, "_asdict"):
        return {name: plain(field) for name, field in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): plain(field) for name, field in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write(report: Any, path: pathlib.Path) -> None:
    """Writes named tuples as JSON; the file appears under its name once complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps(plain(report), indent=2, allow_nan=False) + "\n")


def read(path: pathlib.Path) -> Report:
    """Reads what `write` has written; anything else raises a ValueError."""
    content = path.read_text(encoding="utf-8")
    try:
        return typed(Report, json.loads(content))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a report of this version of experiments.evaluate: {error}."
        ) from error


def typed(kind: Any, value: Any) -> Any:
    """Restores a value from what `plain` has made of it.

    `kind` is its type: a NamedTuple, or the annotation of a field. Any other value
    raises a TypeError or a ValueError.
    """
    inner = typing.get_args(kind)
    if type(None) in inner:
        return None if value is None else typed(inner[0], value)
    if kind is float:
        return math.nan if value is None else float(value)
    if kind is np.ndarray:
        return np.array(value)
    if typing.get_origin(kind) is tuple:
        inner = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(map(typed, inner, value))
    if not hasattr(kind, "_fields"):
        return value
    kinds = typing.get_type_hints(kind)
    if not isinstance(value, dict) or value.keys() != kinds.keys():
        fields = list(value) if isinstance(value, dict) else value
        raise ValueError(f"{kind.__name__} has the fields {list(kinds)}, not {fields}")
    return kind(**{name: typed(kinds[name], value[name]) for name in kinds})


def print_tables(report: Report, console: Console) -> None:
    """Prints the report: a column per set of images."""
    caption = (
        "-log p(x): upper bounds in nats per image, mean ± standard error over images; "
        + _pixels(report)
    )
    if report.splits[0].counts is None:
        caption += "; the baseline has no objects, so no counts or locations"
    table = Table(title=f"{report.dataset}, step {report.step}", caption=caption)
    table.add_column("")
    for split in report.splits:
        table.add_column(f"{split.name}\n{split.num_images} images", justify="right")
    for name, cells in _rows(report.splits):
        if any(cells):
            table.add_row(name, *(cell or "–" for cell in cells))
    console.print(table)


def _pixels(report):
    """Writes how pixels are distributed."""
    kind = report.config["model"].get("pixels", "bernoulli")
    if kind == "bernoulli":
        return f"pixel means lie in [ε, 1 - ε], ε = {report.noise:g}"
    sigma = f"pixels are normal with σ = {report.noise:.3g}"
    if kind == "gaussian":
        return f"{sigma}, and -log p(x) is of their density"
    bound, shape = report.splits[0].bounds[-1], report.config["model"]["image_shape"]
    bits = bits_per_dimension(bound.negative_log_p.mean, shape)
    return (
        f"{sigma}, rounded to 8 bits: {report.splits[0].name} has {bits:.3f} bits per"
        " pixel and channel"
    )


def markdown_table(rows: Iterable[Sequence[str]], num_texts: int = 1) -> str:
    """Writes a table in Markdown; the first row is its head.

    The first `num_texts` columns hold text, the others numbers, aligned to the right.
    """
    head, *others = rows
    rule = ["---"] * num_texts + ["--:"] * (len(head) - num_texts)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *others))


def over_seeds(values: Sequence[float], form: str) -> str:
    """Writes the mean over seeds, and the standard deviation of several."""
    mean = f"{np.mean(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):{form}}"


def _rows(splits):
    """Yields name and cells of each row; a cell is None where a result is unknown."""
    for index, bound in enumerate(splits[0].bounds):
        bounds = [split.bounds[index] for split in splits]
        yield (
            f"-log p(x), K = {bound.num_samples}",
            [text(bound.negative_log_p, ".2f") for bound in bounds],
        )
        yield (
            "  effective sample size",
            [f"{bound.effective_samples:.1f}" for bound in bounds],
        )
    for bound in [split.object_bound for split in splits[:1] if split.object_bound]:
        bounds = [split.object_bound for split in splits]
        name = f"-log p(x), {bound.num_samples} x {bound.num_candidates}, by object"
        yield name, [text(bound.negative_log_p, ".2f") for bound in bounds]
    for name, cell in _FLOOR_ROWS:
        yield name, [split.floor and cell(split.floor) for split in splits]
    for name, cell in _TRUTH_ROWS:
        yield name, [split.truth and cell(split.truth) for split in splits]
    for field, rows in (("location", _LOCATION_ROWS), ("segments", _SEGMENT_ROWS)):
        known = [split.truth and getattr(split.truth, field) for split in splits]
        yield from ((name, [one and cell(one) for one in known]) for name, cell in rows)
    if splits[0].counts is None:
        return
    most = len(splits[0].counts) - 1
    for n in range(most + 1):
        shares = [split.counts[n] / split.num_images for split in splits]
        capped = n == most  # n̂ stops at M, whatever the image holds
        if any(shares) and (capped or any(split.truth is None for split in splits)):
            name = f"at least {n}" if capped else f"{n}"
            yield f"images with {name} objects inferred", [f"{x:.1%}" for x in shares]


def _share(value):
    return None if value is None else text(value, ".2%")


def text(value: float | Estimate, form: str) -> str:
    """Writes a number, with its standard error if it is an estimate; NaN is "–"."""
    if isinstance(value, Estimate):
        return f"{value.mean:{form}} ± {value.standard_error:{form}}"
    return "–" if math.isnan(value) else f"{value:{form}}"


_FLOOR_ROWS = (
    ("floor of the model family", lambda floor: f"{floor.floor:.2f}"),
    ("  distance from it", lambda floor: f"{floor.distance:.2f}"),
)
_TRUTH_ROWS = (
    ("count accuracy", lambda truth: _share(truth.count_accuracy)),
    ("  connected components", lambda truth: _share(truth.components_accuracy)),
    ("  by colour", lambda truth: _share(truth.components_by_colour_accuracy)),
)
_LOCATION_ROWS = (
    ("location error, mean (px)", lambda location: f"{location.mean:.2f}"),
    (
        "  offset removed (rows, columns)",
        lambda location: "{:+.2f}, {:+.2f}".format(*location.offset),
    ),
    (
        "  objects missed, spurious",
        lambda location: f"{location.num_missed}, {location.num_spurious}",
    ),
)
_SEGMENT_ROWS = (
    ("count accuracy where none touch", lambda found: _share(found.apart_accuracy)),
    ("objects found, IoU ≥ 0.5", lambda found: _share(found.recall)),
    ("  share of the inferred ones", lambda found: _share(found.precision)),
    ("ARI", lambda found: text(found.ari, ".3f")),
    ("FG-ARI, 2+ objects", lambda found: text(found.fg_ari, ".3f")),
)
