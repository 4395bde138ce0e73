"""Finds the models for the paper's table and figures, with their reports."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from experiments import cli
from experiments.measure import measured_runs, report
from experiments.run import config as run_config
from lavae_jax import pretrained, released, runs
from lavae_jax.config import from_run, is_baseline

LAVAE, BASELINE = "LAVAE", "baseline"
FAMILIES = (LAVAE, BASELINE)

TITLES = {
    "multi_mnist/1k": "multi-MNIST-1k",
    "multi_mnist/10k": "multi-MNIST-10k",
    "multi_dsprites": "multi-dSprites",
}
"""Names and titles of the paper's data sets, in the order of its Table 1."""


class Models(NamedTuple):
    """Models of a family on a data set, trained alike from several seeds.

    Attributes:
        dataset: Name of the data set in `datasets.load`.
        family: `LAVAE` or `BASELINE`.
        reports: One for every seed that was measured.
        source: Folder of the model of the first report, released or a run; None if no
            seed was measured.
        unmeasured: A line for each seed that was started and has no figures.
    """

    dataset: str
    family: str
    reports: tuple[report.Report, ...] = ()
    source: pathlib.Path | None = None
    unmeasured: tuple[str, ...] = ()

    @property
    def config(self) -> dict[str, Any]:
        """Config of the first seed."""
        return self.reports[0].config


def title(dataset: str) -> str:
    """Returns the title of a data set."""
    return TITLES.get(dataset, dataset)


def from_released(folder: str | pathlib.Path | None = None) -> list[Models]:
    """Reads all released models of a folder, by default those of the library.

    Raises:
        cli.UserError: If there is no model, or a file is damaged.
    """
    folder = pathlib.Path(folder or pretrained.FOLDER)
    names = pretrained.names(folder)
    if not names:
        raise cli.UserError(
            f"there is no released model in {folder}: pass another --weights, or"
            " --workdir with runs of experiments.train."
        )
    found = []
    for name in names:
        with cli.user_errors(ValueError, OSError):
            contents = released.read(folder / name)
            reports = (contents.report, *contents.other_reports)
            found.append(
                Models(
                    contents.config["data"]["name"],
                    _family(contents.config),
                    tuple(map(report.from_plain, reports)),
                    folder / name,
                )
            )
    return found


def from_runs(workdirs: Sequence[str | pathlib.Path]) -> list[Models]:
    """Reads training runs and groups them by data set and family.

    Runs that have not ended or have no report count as unmeasured.

    Raises:
        cli.UserError: If a folder is not the workdir of a run, or runs of a group
            differ in more than their seed.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for workdir in map(str, workdirs):
        with cli.user_errors(ValueError, OSError):
            config = runs.read_config(workdir)
            from_run(config)
        key = (config["data"]["name"], _family(config))
        groups.setdefault(key, []).append(workdir)
    return [_group(*key, members) for key, members in groups.items()]


def complete(models: Iterable[Models]) -> list[Models]:
    """Adds empty models where a data set lacks a family; the paper's come first."""
    by_key = {(one.dataset, one.family): one for one in models}
    datasets = [*TITLES, *sorted({one for one, _ in by_key} - TITLES.keys())]
    return [
        by_key.get((dataset, family), Models(dataset, family))
        for dataset in datasets
        for family in FAMILIES
    ]


def load(models: Models) -> tuple[pretrained.Model, dict[str, Any]]:
    """Loads the model of the first seed that was measured, and its variables.

    Raises:
        cli.UserError: If the model can't be read.
    """
    with cli.user_errors(ValueError, OSError):
        if (models.source / released.CHECKSUMS).exists():
            return pretrained.load_released(models.source)
        return pretrained.load(models.source)


def _family(config):
    return BASELINE if is_baseline(config) else LAVAE


def _group(dataset, family, workdirs):
    """Reads the runs of one data set and family."""
    measured, unmeasured = [], []
    for workdir in workdirs:
        try:
            measured.append(measured_runs.read(workdir, min_images=1))
        except cli.UserError as error:
            seed = run_config.read_config(workdir).seed
            unmeasured.append(f"seed {seed}: {error}")
    if measured:
        measured_runs.check_seeds(measured)
    return Models(
        dataset,
        family,
        tuple(one.report for one in measured),
        pathlib.Path(measured[0].workdir) if measured else None,
        tuple(unmeasured),
    )
