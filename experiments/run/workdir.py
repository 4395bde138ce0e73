"""The workdir of a run: its config, its lock, and in the end its model and report."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

from ml_collections import ConfigDict

from datasets import load
from experiments import cli, files
from experiments.measure import report
from experiments.own import data as own_data
from experiments.run import processes
from experiments.run.checkpoints import Checkpoints
from lavae_jax import runs

# These values may change when a run is continued, as they change no step already made.
# If the length changes, schedules that end with the run become those of the new length,
# so that a run can end earlier or later than planned. A run that is continued after the
# end of its cosine schedules raises its learning rates again.
MAY_CHANGE = (
    "num_steps",
    "log_every",
    "eval_every",
    "picture_every",
    "checkpoint_every",
    "num_eval_images",
    "data.data_dir",
    "data.manual_dir",
    "data.path",
    "data.only_8_bit",  # earlier runs lack it
)

NUM_SAMPLES = 100
"""Importance samples that a report must have to be shown, as many as in Table 1."""


@contextlib.contextmanager
def open_workdir(
    workdir: str | pathlib.Path, config: ConfigDict
) -> Iterator[Checkpoints]:
    """Claims a workdir for a run, and yields the checkpoints in it.

    Other runs are locked out meanwhile. An OSError while it is open becomes a
    `cli.UserError` that says how to continue.
    """
    with lock(workdir):
        processes.on_first(lambda: claim(workdir, config))
        with contextlib.closing(Checkpoints(workdir)) as store:
            try:
                yield store
            except OSError as error:
                raise cli.UserError(
                    f"the system refuses to read or write a file: {error}.\n"
                    f"{store.kept()} Once this is put right, the same command continues"
                    " from there."
                ) from error


@contextlib.contextmanager
def lock(workdir: str | pathlib.Path) -> Iterator[None]:
    """Keeps other runs out of a workdir, which is made when it does not exist.

    The operating system holds the lock for as long as this process lives: one that was
    killed leaves none behind. Where a shared file system does not support `flock`, a
    warning says so. Of several processes the first holds it for all.
    """
    held = processes.on_first(lambda: _acquire(pathlib.Path(workdir)))
    with held or contextlib.nullcontext():
        yield


def _acquire(workdir: pathlib.Path) -> TextIO:
    """Returns the open, locked file, whose text says which process holds it."""
    path = workdir / ".lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise cli.UserError(
            f"the --workdir {workdir} can't be written to: {error}."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with file:
            file.seek(0)
            holder = file.read().strip() or "one that has just started"
        raise cli.UserError(
            f"{workdir} is in use by another run, {holder}: wait for its end, stop it,"
            " or give this run another --workdir."
        ) from error
    except OSError as error:
        cli.warn(
            f"{path} can't be locked ({error}): make sure that no other run uses"
            f" {workdir}."
        )
    with cli.user_errors(OSError):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    return file


def claim(workdir: str | pathlib.Path, config: ConfigDict) -> None:
    """Claims a workdir for a run of this config, which is stored as `config.json`.

    Raises:
        cli.UserError: if the folder holds checkpoints of a run with another config: the
            message lists the differences. Those of `MAY_CHANGE` are allowed.
    """
    path = pathlib.Path(workdir) / "config.json"
    with cli.user_errors(OSError):
        steps = runs.checkpoint_steps(workdir)
    if steps and not path.exists():
        raise cli.UserError(
            f"{workdir} holds checkpoints, but no config.json that says of which run:"
            " put it back, or give this run another --workdir."
        )
    if steps:
        stored, new = read_config(workdir), from_json(json.loads(config.to_json()))
        lines = differences(stored, new)
        before, after = _tighten_after(stored), _tighten_after(new)
        if min(steps[-1], before) != min(steps[-1], after):
            lines.append(
                f"  num_steps - tighten.steps: {before} there, {after} here, of"
                f" {steps[-1]} steps made"
            )
        if lines:
            listed = "\n".join(lines)
            raise cli.UserError(
                f"{workdir} holds a run with another config:\n{listed}\n"
                "Give this run another --workdir, or the config of that one."
            )
    with cli.user_errors(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, config.to_json(indent=2) + "\n")


def _tighten_after(config):
    """Returns the number of steps before those that tighten the bound."""
    return config.get("num_steps", 0) - config.get("tighten", {}).get("steps", 0)


_LATER = {
    "data.num_images": 0,
    "data.varied": False,
    "model.location_prior": "uniform",
    "elbo.wake_one_more": False,
    "elbo.apart_steps": 0,
    "elbo.apart_radius": 4,
}
"""Values that configs of earlier runs lack, and what these runs did."""


def with_later_values(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Adds to a run's values those of `names` that earlier runs lack."""
    return {name: _LATER[name] for name in names if name in _LATER} | values


def differences(stored: ConfigDict, new: ConfigDict) -> list[str]:
    """Lists the values by which two configs are of different runs, a line each.

    The lines call the first config "there" and the second one "here".
    """
    there, here = cli.flatten(stored), cli.flatten(new)
    there = with_later_values(there, here)
    return [
        f"  {name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in sorted(there.keys() | here.keys())
        if name not in MAY_CHANGE and there.get(name) != here.get(name)
    ]


def read_config(workdir: str | pathlib.Path) -> ConfigDict:
    """Returns the config of the run in a workdir; without one, raises an error."""
    with cli.user_errors(ValueError, OSError):
        return from_json(runs.read_config(workdir))


def from_json(config: dict[str, Any]) -> ConfigDict:
    """Returns the config that a run's file holds, with tuples where JSON has lists."""
    return ConfigDict(_tuples(config))


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Measured(NamedTuple):
    """A run that has ended, and the report of its last step."""

    workdir: str
    run: runs.Run
    report: report.Report


def read_measured(workdir: str | pathlib.Path, min_images: int) -> Measured:
    """Reads a run that has ended, and the report of its last step.

    The data folders of this machine are removed from both. A report on fewer than
    `min_images` images of a split is refused.
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
            f" {num_steps}. Start its training command again to continue."
        )
    path = pathlib.Path(workdir) / "evaluation" / "report.json"
    advice = f"Measure it: python -m experiments.evaluate --workdir={workdir}"
    if not path.exists():
        raise cli.UserError(f"{path} does not exist. {advice}")
    with cli.user_errors(ValueError, OSError):
        run_report = report.read(path)
    if problem := _problem(run, run_report, min_images):
        raise cli.UserError(f"{path} {problem}. {advice}")
    return Measured(workdir, run, run_report._replace(config=run.config))


def without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """Copies a config without the folders of the data on this machine."""
    return {**config, "data": {**config["data"], "data_dir": "", "manual_dir": ""}}


def _problem(run, run_report, min_images):
    """Says why a report is not one of this run that can be shown, or returns None."""
    stored, reported = map(from_json, (run.config, run_report.config))
    if run_report.step != run.step:
        return f"is of step {run_report.step}, and the run's newest of step {run.step}"
    if lines := differences(reported, stored):
        listed = "\n".join(lines)
        return f"is of another config (there: the report's, here: the run's):\n{listed}"
    wanted = [name for name in load.splits(stored.data.name) if name.startswith("test")]
    if (names := [split.name for split in run_report.splits]) != wanted:
        return f"has the splits {', '.join(names)}, not {', '.join(wanted)}"
    for split in run_report.splits:
        if split.num_images < min_images:
            return f"is on {split.num_images} images of {split.name}, not {min_images}"
        if (num_samples := split.bounds[-1].num_samples) != NUM_SAMPLES:
            return f"has {num_samples} importance samples, not {NUM_SAMPLES}"
    return None


def check_seeds(measured: Sequence[Measured]) -> None:
    """Refuses runs that are not seeds of one config, measured on the same images."""
    first, *others = measured
    for other in others:
        if lines := differences(_but_for_the_seed(first), _but_for_the_seed(other)):
            listed = "\n".join(lines)
            raise cli.UserError(
                f"{other.workdir} (here) is not {first.workdir} (there) with another"
                f" seed:\n{listed}"
            )
    seeds = [one.run.config["seed"] for one in measured]
    if len(set(seeds)) < len(seeds):
        raise cli.UserError(
            f"--workdir: every run needs a seed of its own, got the seeds"
            f" {', '.join(map(str, seeds))}."
        )


def _but_for_the_seed(measured):
    """Collects all values that runs must share to be compared."""
    shared = from_json({**measured.run.config, "seed": 0})
    shared.steps = measured.run.step
    shared.data_version = measured.report.data_version
    shared.images = tuple(split.num_images for split in measured.report.splits)
    return shared
