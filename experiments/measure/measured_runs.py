"""Reads training runs that have ended and were measured."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from datasets import load
from experiments import cli
from experiments.measure import measure, report
from experiments.own import data as own_data
from experiments.run import config as run_config
from lavae_jax import runs

NUM_SAMPLES = 100
"""Importance samples that a report must have: those of Table 1."""


class Measured(NamedTuple):
    """A run and its report."""

    workdir: str
    run: runs.Run
    report: report.Report


def read(workdir: str | pathlib.Path, min_images: int) -> Measured:
    """Reads a run that has ended, and the report of its last step.

    Args:
        workdir: The folder of the run.
        min_images: A report on fewer images of a split is refused.

    Raises:
        cli.UserError: If there is no such run or report; it says what to do.
    """
    workdir = str(workdir)
    with cli.user_errors(ValueError, OSError):
        run = runs.read(workdir)
    if own_data.is_own(run.config):
        raise cli.UserError(
            f"{workdir} is a run on images of its own: only models of the named data"
            " sets are released and shown."
        )
    run = run._replace(config=without_folders(run.config))
    num_steps = run.config["num_steps"]
    if run.step != num_steps:
        raise cli.UserError(
            f"{workdir} has not ended: its newest checkpoint is of step {run.step} of"
            f" {num_steps}. Start its training command again, and it goes on."
        )
    path = pathlib.Path(workdir) / "evaluation" / "report.json"
    how = f"Measure it: python -m experiments.evaluate --workdir={workdir}"
    if not path.exists():
        raise cli.UserError(f"{path} does not exist. {how}")
    with cli.user_errors(ValueError, OSError):
        found = report.read(path)
    if problem := _problem(run, found, min_images):
        raise cli.UserError(f"{path} {problem}. {how}")
    found = found._replace(config=run.config)
    return Measured(workdir, run, found)


def without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """Copies a config without the folders of the data on this machine."""
    data = config.get("data", {})
    return {**config, "data": {**data, "data_dir": "", "manual_dir": ""}}


def _problem(run, found, min_images):
    """Says why a report can't be released with this run, or returns None."""
    stored, seen = map(run_config.from_json, (run.config, found.config))
    if found.step != run.step:
        return f"is of step {found.step}, and the run's newest of step {run.step}"
    if lines := run_config.differences(seen, stored):
        return "\n".join(
            ["is of another config (there: the report's, here: the run's):", *lines]
        )
    wanted = list(filter(measure.is_test_split, load.splits(stored.data.name)))
    if (names := [split.name for split in found.splits]) != wanted:
        return f"has the splits {', '.join(names)}, not {', '.join(wanted)}"
    for split in found.splits:
        if split.num_images < min_images:
            return f"is on {split.num_images} images of {split.name}, not {min_images}"
        if (num_samples := split.bounds[-1].num_samples) != NUM_SAMPLES:
            return f"has {num_samples} importance samples, not {NUM_SAMPLES}"
    return None


def check_seeds(measured: Sequence[Measured]) -> None:
    """Refuses runs that are not seeds of one config, measured on the same images.

    Raises:
        cli.UserError: If they differ; it lists the differences.
    """
    first, *others = measured
    for other in others:
        there, here = (_but_for_the_seed(one) for one in (first, other))
        if lines := run_config.differences(there, here):
            raise cli.UserError(
                "\n".join(
                    [
                        f"{other.workdir} (here) is not {first.workdir} (there) with"
                        " another seed:",
                        *lines,
                    ]
                )
            )
    seeds = [one.run.config["seed"] for one in measured]
    if len(set(seeds)) < len(seeds):
        raise cli.UserError(
            f"--workdir: every run needs a seed of its own, got the seeds"
            f" {', '.join(map(str, seeds))}."
        )


def _but_for_the_seed(measured):
    """Collects all that runs must share to be compared."""
    shared = run_config.from_json({**measured.run.config, "seed": 0})
    shared.steps = measured.run.step
    shared.data_version = measured.report.data_version
    shared.images = tuple(split.num_images for split in measured.report.splits)
    return shared
