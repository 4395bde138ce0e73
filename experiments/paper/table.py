"""Table 1: bounds and counts of LAVAE and the baseline, beside the paper's."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from experiments import cli
from experiments.measure import report
from experiments.run import workdir as run_workdir
from experiments.run.workdir import NUM_SAMPLES
from lavae_jax import pretrained, released, runs
from lavae_jax.config import from_run, is_baseline

LAVAE, BASELINE = "LAVAE", "baseline"

TITLES = {
    "multi_mnist/1k": "multi-MNIST-1k",
    "multi_mnist/10k": "multi-MNIST-10k",
    "multi_dsprites": "multi-dSprites",
}
"""Names and titles of the paper's data sets, in the order of its Table 1."""


class Published(NamedTuple):
    """A row of Table 1 of the paper; the baseline has no counts."""

    negative_log_p: float  # nats per image
    deviation: float  # over seeds
    count_accuracy: float | None = None  # the least share counted right


PUBLISHED = {
    ("multi_mnist/1k", LAVAE): Published(42.2, 1.1, 0.999),
    ("multi_mnist/10k", LAVAE): Published(60.4, 2.8, 0.997),
    ("multi_dsprites", LAVAE): Published(43.9, 1.0, 0.999),
    ("multi_mnist/1k", BASELINE): Published(51.6, 0.6),
    ("multi_mnist/10k", BASELINE): Published(64.6, 0.8),
    ("multi_dsprites", BASELINE): Published(45.8, 0.7),
}

_HEAD = (
    *("data", "model", "seeds", "images", "−log p(x) ≤", "paper", "floor", "n acc."),
    *("paper", "test_7: −log p(x) ≤", "floor", "n acc."),
)
_NOTES = f"""\
−log p(x): upper bounds with {NUM_SAMPLES} importance samples, nats per image, on the \
first images of `test` (as many objects as in training) and of `test_7` (7 objects); ± \
is the standard deviation over seeds. Floor: the least that the family of models can \
reach on the data. n acc.: images whose objects are counted right.

These seeds have no figures, or worse ones than the paper; the means include every seed
that was measured:

"""


class Models(NamedTuple):
    """Models of a family on a data set, trained alike from several seeds."""

    dataset: str  # its name in `datasets.load`
    family: str  # `LAVAE` or `BASELINE`
    reports: tuple[report.Report, ...] = ()  # one for every seed that was measured
    source: pathlib.Path | None = None  # folder of the first report's model
    unmeasured: tuple[str, ...] = ()  # a line for each other seed that was started

    @property
    def config(self) -> dict[str, Any]:
        """Returns the config of the first seed."""
        return self.reports[0].config

    @property
    def title(self) -> str:
        """Returns the title of the data set."""
        return TITLES.get(self.dataset, self.dataset)


def from_released(folder: str | pathlib.Path = pretrained.FOLDER) -> list[Models]:
    """Reads all released models of a folder, by default those of the library."""
    models = []
    for name in pretrained.names(folder):
        path = pathlib.Path(folder) / name
        with cli.user_errors(TypeError, ValueError, OSError):
            contents = released.read(path)
            dataset, family = contents.config["data"]["name"], _family(contents.config)
            reports = (contents.report, *contents.other_reports)
            reports = tuple(report.typed(report.Report, value) for value in reports)
        models.append(Models(dataset, family, reports, path))
    return models


def from_runs(workdirs: Sequence[str | pathlib.Path]) -> list[Models]:
    """Reads training runs and groups them by data set and family.

    Runs that have not ended or have no report count as unmeasured. A folder that is no
    workdir, and runs of a group that differ in more than their seed, are refused.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for workdir in map(str, workdirs):
        with cli.user_errors(ValueError, OSError):
            config = runs.read_config(workdir)
            from_run(config)
        key = (config["data"]["name"], _family(config))
        groups.setdefault(key, []).append(workdir)
    return [_group(*key, members) for key, members in groups.items()]


def _family(config):
    return BASELINE if is_baseline(config) else LAVAE


def _group(dataset, family, workdirs):
    measured, unmeasured = [], []
    for workdir in workdirs:
        try:
            measured.append(run_workdir.read_measured(workdir, min_images=1))
        except cli.UserError as error:
            seed = run_workdir.read_config(workdir).seed
            unmeasured.append(f"seed {seed}: {error}")
    if measured:
        run_workdir.check_seeds(measured)
    return Models(
        dataset,
        family,
        tuple(one.report for one in measured),
        pathlib.Path(measured[0].workdir) if measured else None,
        tuple(unmeasured),
    )


def complete(models: Iterable[Models]) -> list[Models]:
    """Adds empty models where a data set lacks a family; the paper's come first."""
    by_key = {(one.dataset, one.family): one for one in models}
    datasets = [*TITLES, *sorted({one for one, _ in by_key} - TITLES.keys())]
    return [
        by_key.get((dataset, family), Models(dataset, family))
        for dataset in datasets
        for family in (LAVAE, BASELINE)
    ]


def markdown(models: Sequence[Models]) -> str:
    """Writes a row per data set and family, and below the table the failures."""
    table = report.markdown_table([_HEAD, *map(_row, models)], num_texts=2)
    failures = [
        f"- {one.title}, {one.family}: {' '.join(line.split())}\n"
        for one in models
        for line in _failures(one)
    ]
    return "".join([table, "\n", _NOTES, *(failures or ["No failures.\n"])])


def _row(models: Models) -> list[str]:
    published, accuracy = "–", "–"
    if paper := PUBLISHED.get((models.dataset, models.family)):
        published = f"{paper.negative_log_p} ± {paper.deviation}"
        if paper.count_accuracy is not None:
            accuracy = f"≥ {paper.count_accuracy:.1%}"
    names = [models.title, models.family, str(len(models.reports))]
    if not models.reports:
        gap = "not measured" if models.unmeasured else "not trained"
        return [*names, "–", gap, published, "–", "–", accuracy, "–", "–", "–"]
    splits = {
        seeds[0].name: seeds
        for seeds in zip(*(one.splits for one in models.reports), strict=True)
    }
    cost, floor, counts = _cells(splits.get("test"))
    numbers = dict.fromkeys(seeds[0].num_images for seeds in splits.values())
    return [
        *names,
        ", ".join(f"{number:,}" for number in numbers),
        *(cost, published, floor, counts, accuracy),
        *_cells(splits.get("test_7")),
    ]


def _cells(seeds):
    """Writes bound, floor and counts of one split, which every seed has measured."""
    if seeds is None:
        return ["–"] * 3
    floor, counts = "–", "–"
    if seeds[0].floor is not None:
        floor = f"{seeds[0].floor.floor:.1f}"
    if seeds[0].truth is not None:
        shares = [one.truth.count_accuracy for one in seeds]
        counts = report.over_seeds(shares, ".2%")
    return [report.over_seeds(list(map(_cost, seeds)), ".1f"), floor, counts]


def _cost(split):
    (bound,) = (one for one in split.bounds if one.num_samples == NUM_SAMPLES)
    return bound.negative_log_p.mean


def _failures(models):
    """Yields a line for each seed without figures or behind the paper on `test`."""
    yield from models.unmeasured
    paper = PUBLISHED.get((models.dataset, models.family))
    for one in models.reports if paper else ():
        split = next(split for split in one.splits if split.name == "test")
        seed, cost = one.config["seed"], _cost(split)
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
