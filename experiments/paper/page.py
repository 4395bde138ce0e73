"""Writes the page that shows the paper's table, figures and claims."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.paper import figures as paper_figures
from experiments.paper import models as paper_models
from experiments.paper import table as paper_table
from experiments.paper.claims import Calibration, Claims, Counts
from experiments.paper.figures import Picture
from experiments.paper.models import LAVAE
from experiments.paper.subject import HIGH, LOW


class DataSet(NamedTuple):
    """What was made of one data set.

    Attributes:
        dataset: Name of the data set.
        source: Name of the folder of LAVAE's weights.
        seed: The seed that they were trained with.
        pictures: The figures; their files lie in the folder `folder(dataset)`.
        claims: What the paper claims, measured.
    """

    dataset: str
    source: str
    seed: int
    pictures: tuple[Picture, ...]
    claims: Claims


class PaperReport(NamedTuple):
    """The contents of the page.

    Attributes:
        num_images: How many images of each kind were used.
        seed: Seed of samples, edits and additional scenes.
        versions: Versions of the packages that the numbers depend on.
        table: Table 1.
        datasets: The data sets with figures.
    """

    num_images: int
    seed: int
    versions: dict[str, str]
    table: tuple[paper_table.Row, ...]
    datasets: tuple[DataSet, ...]


_NO_EFFECT = 0.001

_PAGE = """\
# Table 1, the figures and the claims of the LAVAE paper

Made by `python -m experiments.paper` (seed {seed}, the first {num_images} images of \
each split) with {versions}.

## Table 1

{table}
{sections}"""

_TITLES = {
    "inference": "Inference and reconstruction",
    "samples": "Samples from the prior",
    "samples_5_6": "Samples with p(n) replaced",
    "locations": "Location traversal",
    "appearances": "Appearance traversal",
    "swaps": "Object swaps",
}


def folder(dataset: str) -> str:
    """Returns the name of the folder of a data set's pictures."""
    return dataset.replace("/", "_")


def markdown(report: PaperReport) -> str:
    """Writes the page; its pictures lie in folders beside it."""
    shown = {one.dataset: one for one in report.datasets}
    sections = [
        _section(shown[row.dataset], report.num_images)
        if row.dataset in shown
        else _gap(row)
        for row in report.table
        if row.family == LAVAE
    ]
    return _PAGE.format(
        seed=report.seed,
        num_images=report.num_images,
        versions=", ".join(f"{name} {x}" for name, x in report.versions.items()),
        table=paper_table.markdown(report.table),
        sections="\n".join(sections),
    )


def _gap(row):
    """Writes the section of a data set without figures."""
    why = "its figures were not asked for" if row.seeds else "LAVAE is not trained"
    return f"## {paper_models.title(row.dataset)}\n\nNo figures: {why}.\n"


def _section(one: DataSet, num_images: int) -> str:
    """Writes the section of one data set."""
    title = paper_models.title(one.dataset)
    parts = [f"## {title}\n\nLAVAE from {one.source}, trained with seed {one.seed}.\n"]
    for picture in one.pictures:
        heading = _heading(one.dataset, picture.name)
        parts += [f"### {title}: {heading}\n", f"{picture.caption}\n"]
        if picture.file is not None:
            place = f"{folder(one.dataset)}/{picture.file}"
            parts.append(f"![{heading}]({place})\n")
    claims = one.claims
    parts += [
        f"### {title}: counting any number of objects\n",
        _counts(claims.counts, folder(one.dataset)),
        f"### {title}: the learned p(n)\n",
        _calibration(claims.calibration),
        f"### {title}: dimensions of an appearance\n",
        _effects(claims.effects),
    ]
    return "\n".join(parts)


def _heading(dataset, name):
    kind, _, number = name.rpartition("_")
    text = _TITLES.get(name) or f"{_TITLES[kind]}, {_SCENES[kind, number]}"
    numbers = [
        str(figure)
        for figure, (datasets, names) in paper_figures.IN_THE_PAPER.items()
        if dataset in datasets and name in names
    ]
    if not numbers:
        return text
    return f"{text} (Figure{'s' * (len(numbers) > 1)} {' and '.join(numbers)})"


_SCENES = {(kind, n): f"{n} objects" for kind in _TITLES for n in ("3", "7")}
_SCENES["inference", "3"] = "up to 3 objects"


def _counts(counts: Counts, place: str) -> str:
    """Writes how many scenes with each number of objects are counted right."""
    numbers = [str(n) for n in range(len(counts.accuracy))]
    rows = {
        "new scenes": [str(num) for num in counts.num_scenes],
        "counted right": [_share(x) for x in counts.accuracy],
    }
    return (
        "New scenes of the same kind, which are in no split:\n\n"
        + _table([["n", *numbers], _rule(numbers), *_labelled(rows)])
        + f"\n![True and inferred numbers of objects]({place}/counts.png)\n"
    )


def _calibration(calibration: Calibration) -> str:
    """Writes p(n) beside the frequencies of n."""
    numbers = [str(n) for n in range(len(calibration.learned))]
    rows = {
        "share of training scenes": [f"{x:.4f}" for x in calibration.frequencies],
        "learned p(n)": [_small(x) for x in calibration.learned],
        "log p(n) − log share": [
            f"{x:+.3f}".replace("-", "−") if math.isfinite(x) else "–"
            for x in _log_ratio(calibration)
        ],
    }
    return (
        f"How often n occurs in the {calibration.num_scenes:,} scenes of training, and"
        " what was learned:\n\n"
        + _table([["n", *numbers], _rule(numbers), *_labelled(rows)])
        + f"\nIt costs {calibration.divergence:.2g} nats per image more than the"
        " frequencies themselves would.\n"
    )


def _effects(effects: np.ndarray) -> str:
    """Writes by how much each dimension changes sprites, in order."""
    order = np.argsort(-effects, kind="stable")
    few = order[effects[order] < _NO_EFFECT]
    listed = ", ".join(f"{d} ({effects[d]:.3f})" for d in order if d not in few)
    return (
        "Mean change of the pixels of test sprites when one dimension is set to values"
        f" from {LOW:g} to {HIGH:g}, the largest first: {listed or 'none'}. The other"
        f" {len(few)} of {len(effects)} change them by less than {_NO_EFFECT}.\n"
    ).replace(" -", " −")


def _log_ratio(calibration):
    with np.errstate(divide="ignore"):
        return np.log(calibration.learned) - np.log(calibration.frequencies)


def _labelled(rows):
    return [[label, *cells] for label, cells in rows.items()]


def _rule(columns):
    return ["---", *["--:"] * len(columns)]


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _share(value):
    return "–" if math.isnan(value) else f"{value:.1%}"


def _small(value):
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.0e}"
