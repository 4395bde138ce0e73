"""Table 1: bounds and counts of LAVAE and the baseline, beside the paper's."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.measure import report
from experiments.measure.measured_runs import NUM_SAMPLES
from experiments.paper import models as paper_models
from experiments.paper.models import BASELINE, LAVAE, Models


class Published(NamedTuple):
    """A row of Table 1 of the paper.

    Attributes:
        negative_log_p: Mean over seeds, nats per image.
        deviation: Standard deviation over seeds.
        count_accuracy: Least share of images counted right; None for the baseline.
    """

    negative_log_p: float
    deviation: float
    count_accuracy: float | None = None


PUBLISHED = {
    ("multi_mnist/1k", LAVAE): Published(42.2, 1.1, 0.999),
    ("multi_mnist/10k", LAVAE): Published(60.4, 2.8, 0.997),
    ("multi_dsprites", LAVAE): Published(43.9, 1.0, 0.999),
    ("multi_mnist/1k", BASELINE): Published(51.6, 0.6),
    ("multi_mnist/10k", BASELINE): Published(64.6, 0.8),
    ("multi_dsprites", BASELINE): Published(45.8, 0.7),
}


class OverSeeds(NamedTuple):
    """A mean over seeds and the standard deviation, which is NaN for one seed."""

    mean: float
    deviation: float


class Split(NamedTuple):
    """Figures of one split.

    Attributes:
        name: Name of the split.
        num_images: How many images were measured.
        negative_log_p: Upper bounds with 100 importance samples, nats per image.
        standard_error: Standard error of the bound over images, mean over seeds.
        floor: The least value that the family can reach; None where it is not known.
        count_accuracy: Share of images counted right; None for the baseline.
    """

    name: str
    num_images: int
    negative_log_p: OverSeeds
    standard_error: float
    floor: float | None
    count_accuracy: OverSeeds | None


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        dataset: Name of the data set in `datasets.load`.
        family: `LAVAE` or `BASELINE`.
        seeds: The seeds that were measured; empty if the model is not trained.
        splits: All splits that were measured, `test` first.
        paper: The paper's figures; None for other data sets.
        failures: A line for each seed without figures or behind the paper's.
    """

    dataset: str
    family: str
    seeds: tuple[int, ...]
    splits: tuple[Split, ...]
    paper: Published | None
    failures: tuple[str, ...]


def table(models: Sequence[Models]) -> list[Row]:
    """Makes a row for each data set and family, in the order given."""
    return [_row(one) for one in models]


def markdown(rows: Sequence[Row]) -> str:
    """Writes the table, and below it the failures, as Markdown."""
    head = (
        "data",
        "model",
        "seeds",
        "images",
        "−log p(x) ≤",
        "paper",
        "floor",
        "n acc.",
        "paper",
        "test_7: −log p(x) ≤",
        "floor",
        "n acc.",
    )
    lines = [head, ("---", "---", *["--:"] * (len(head) - 2)), *map(_cells, rows)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    failures = [
        f"- {paper_models.title(row.dataset)}, {row.family}: {' '.join(line.split())}\n"
        for row in rows
        for line in row.failures
    ]
    return "".join([text, "\n", _NOTES, *(failures or ["No failures.\n"])])


_NOTES = f"""\
−log p(x): upper bounds with {NUM_SAMPLES} importance samples, nats per image, on the \
first images of `test` (as many objects as in training) and of `test_7` (7 objects); ± \
is the standard deviation over seeds. Floor: the least that the family of models can \
reach on the data. n acc.: images whose objects are counted right.

Failures, seeds without figures or behind the paper's (all that were measured are in the
means):

"""


def _row(models):
    paper = PUBLISHED.get((models.dataset, models.family))
    return Row(
        models.dataset,
        models.family,
        seeds=tuple(one.config["seed"] for one in models.reports),
        splits=tuple(
            _split(splits)
            for splits in zip(*(one.splits for one in models.reports), strict=True)
        ),
        paper=paper,
        failures=(*models.unmeasured, *_behind(models.reports, paper)),
    )


def _split(splits: Sequence[report.SplitReport]) -> Split:
    """Summarises one split over all seeds."""
    first = splits[0]
    counts = None
    if first.truth is not None:
        counts = _over_seeds([split.truth.count_accuracy for split in splits])
    return Split(
        first.name,
        first.num_images,
        _over_seeds([_cost(split).mean for split in splits]),
        float(np.mean([_cost(split).standard_error for split in splits])),
        first.floor and first.floor.floor,
        counts,
    )


def _cost(split):
    (bound,) = (one for one in split.bounds if one.num_samples == NUM_SAMPLES)
    return bound.negative_log_p


def _over_seeds(values):
    deviation = np.std(values, ddof=1) if len(values) > 1 else math.nan
    return OverSeeds(float(np.mean(values)), float(deviation))


def _behind(reports, paper):
    """Yields a line for each figure on `test` in which a seed is behind the paper."""
    if paper is None:
        return
    for one in reports:
        split = next(split for split in one.splits if split.name == "test")
        seed, cost = one.config["seed"], _cost(split).mean
        if cost > paper.negative_log_p:
            yield (
                f"seed {seed}: −log p(x) ≤ {cost:.1f}, above the paper's"
                f" {paper.negative_log_p}"
            )
        if paper.count_accuracy and split.truth.count_accuracy < paper.count_accuracy:
            yield (
                f"seed {seed}: counts {split.truth.count_accuracy:.2%} of images"
                f" right, below the paper's {paper.count_accuracy:.1%}"
            )


def _cells(row: Row) -> list[str]:
    """Returns the texts of a row."""
    names = [paper_models.title(row.dataset), row.family]
    paper, accuracy = "–", "–"
    if row.paper is not None:
        paper = f"{row.paper.negative_log_p} ± {row.paper.deviation}"
        if row.paper.count_accuracy is not None:
            accuracy = f"≥ {row.paper.count_accuracy:.1%}"
    if not row.seeds:
        gap = "not measured" if row.failures else "not trained"
        return [*names, "0", "–", gap, paper, "–", "–", accuracy, "–", "–", "–"]
    by_name = {split.name: _split_cells(split) for split in row.splits}
    cost, floor, count = by_name.get("test", ["–"] * 3)
    return [
        *names,
        str(len(row.seeds)),
        _num_images(row.splits),
        *(cost, paper, floor, count, accuracy),
        *by_name.get("test_7", ["–"] * 3),
    ]


def _num_images(splits):
    """Writes how many images of each split were measured, once if they are equal."""
    numbers = dict.fromkeys(split.num_images for split in splits)
    return ", ".join(f"{number:,}" for number in numbers)


def _split_cells(split):
    return [
        _text(split.negative_log_p, ".1f"),
        "–" if split.floor is None else f"{split.floor:.1f}",
        "–" if split.count_accuracy is None else _text(split.count_accuracy, ".2%"),
    ]


def _text(value, form):
    if math.isnan(value.deviation):
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} ± {value.deviation:{form}}"
