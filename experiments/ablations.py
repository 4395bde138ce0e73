"""Trains short runs with single settings changed, and writes what each of them does.

python -m experiments.ablations

The settings are in `ablations_list.py`, each with the question that it answers; --list
prints them with their commands, --only=NAME,NAME2 picks some. By default they change
the laptop variant of multi-dSprites.

A run that has ended is not repeated, one that was interrupted goes on, and one that
diverges is a result. After every run ABLATIONS.md, results/ablations.json and the
figures in results/ are written again from all that have ended. To share the work, start
the command several times: every process takes what no other one is at. What is measured
are scenes held out from the training split, never those of a test split.
"""

import contextlib
import fcntl
import pathlib
import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import (
    ablations_document,
    ablations_results,
    ablations_settings,
    cli,
    input_pipeline,
    limits,
    loop,
    run_config,
)
from experiments.ablations_list import SETTINGS
from experiments.ablations_settings import Setting
from experiments.window import DivergedError
from lavae_jax.config import is_baseline

CONFIG = "experiments/configs/dsprites.py:laptop"
WORKDIR = "runs/ablations"
NUM_STEPS = 3_200
_OUT = pathlib.Path(__file__).parent


class Run(NamedTuple):
    """A run to make.

    Attributes:
      setting: What it is trained with.
      config: Its config.
      changes: What it changes in that of its setting's base.
      num_steps: The length of all runs; a setting may take more steps of fewer images.
      folder: Its workdir, in the folder of all runs of a config and length.
      file: The config it is made of, FILE[:VARIANT].
      shared: What all runs change in that.
      command: What trains it alone.
    """

    setting: Setting
    config: ConfigDict
    changes: dict[str, ablations_settings.Value]
    num_steps: int
    folder: pathlib.Path
    file: str
    shared: dict[str, Any]
    command: str


def plan(
    config: ConfigDict,
    file: str,
    num_steps: int = NUM_STEPS,
    only: Collection[str] = (),
    workdir: str | pathlib.Path = WORKDIR,
) -> list[Run]:
    """The runs to make, all found to be possible.

    Args:
      config: The recipe to change, on its whole length.
      file: What `--config` calls it.
      num_steps: The length of each run.
      only: Names of settings; by default all of them.
      workdir: Where the folders of all runs are.

    Raises:
      cli.UserError: If there is no such setting, one of them can't be trained with, or
        a folder holds another run.
    """
    if is_baseline(config):
        raise cli.UserError("the list is for LAVAE: the baseline has no such settings.")
    names = [setting.name for setting in SETTINGS]
    if unknown := [name for name in only if name not in names]:
        raise cli.UserError(
            f"--only: there is no setting {', '.join(unknown)}. There is:"
            f" {', '.join(names)}."
        )
    input_pipeline.check_fit(config)
    short = ablations_settings.shortened(config, num_steps)
    study = f"{cli.config_name(file)}-{num_steps}"
    runs = [
        _run(setting, seed, short, file, pathlib.Path(workdir), study)
        for setting in SETTINGS
        if not only or setting.name in only
        for seed in setting.seeds
    ]
    for run in runs:
        _check(run)
    return runs


def _run(setting, seed, short, file, workdir, study):
    config = ablations_settings.changed(short, setting, seed)
    place = pathlib.Path(study) / f"{setting.name}-seed{config.seed}"
    values = _differences(file, config).items()
    shared = _differences(file, short)
    shared.pop("seed", None)
    return Run(
        setting=setting,
        config=config,
        changes=ablations_settings.changes(short, setting),
        num_steps=short.num_steps,
        folder=workdir / place,
        file=file,
        shared=shared,
        command=shlex.join(
            [
                *("python", "-m", "experiments.train", f"--config={file}"),
                *(f"--config.{name}={value}" for name, value in values),
                f"--workdir={pathlib.Path(WORKDIR) / place}",
            ]
        ),
    )


def _differences(file, config):
    """What a config changes in its file; where data lie on this machine aside."""
    values, places = cli.flatten(cli.load_config(file)), ("data_dir", "manual_dir")
    return {
        name: value
        for name, value in cli.flatten(config).items()
        if value != values[name] and name.removeprefix("data.") not in places
    }


def _check(run):
    """Refuses a run that can't be trained, or whose folder is another's."""
    try:
        limits.check(run.config)
    except ValueError as error:
        raise cli.UserError(f"{run.setting.name}: {error}") from error
    if not (run.folder / "config.json").exists():
        return
    there = run_config.read_config(run.folder)
    if lines := run_config.differences(there, run.config):
        raise cli.UserError(
            "\n".join(
                [
                    f"{run.folder} holds a run with another config:",
                    *lines,
                    "Delete it to run this one, or take another --workdir.",
                ]
            )
        )


def ablate(
    runs: Sequence[Run],
    workdir: str | pathlib.Path = WORKDIR,
    out: str | pathlib.Path = _OUT,
    devices: Sequence[jax.Device] | None = None,
) -> None:
    """Makes runs, and writes the document anew after each.

    Args:
      runs: What `plan` gives.
      workdir: As there; the document is about all runs in it.
      out: The folder of ABLATIONS.md and results/.
      devices: What to train on, by default every device.

    Raises:
      cli.UserError: If a folder can't be used, or a result be read.
      KeyboardInterrupt: After an interruption; the same call goes on from there.
    """
    workdir, out = pathlib.Path(workdir), pathlib.Path(out)
    for number, run in enumerate(runs, start=1):
        print(f"run {number} of {len(runs)}: {run.folder}", flush=True)
        with _lock(run.folder) as ours:
            if not ours:
                print("  another process is at it: skipped")
            elif ablations_results.read(run.folder) is not None:
                print("  has been made")
            else:
                ablations_results.write(_result(run, devices), run.folder)
                if number < len(runs):
                    _write(workdir, out)
    for path in _write(workdir, out):
        print(path)


def _result(run, devices):
    """Trains and measures; a run that diverges is measured no further."""
    diverged_at = None
    try:
        loop.train_and_evaluate(run.config, run.folder, devices)
    except DivergedError as error:
        print(f"  it has diverged: step {error.step} is not finite")
        diverged_at = error.step
    measured = None
    if diverged_at is None:
        measured = ablations_results.measure_run(run.config, run.folder)
    return ablations_results.Result(
        study=run.folder.parent.name,
        config=run.file,
        num_steps=run.num_steps,
        shared=run.shared,
        name=run.setting.name,
        changes=run.changes,
        seed=run.config.seed,
        command=run.command,
        parameters=ablations_results.num_parameters(run.config),
        image_gflop=ablations_results.image_gflop(run.config),
        diverged_at=diverged_at,
        measured=measured,
        curve=ablations_results.read_curve(run.folder),
    )


def _write(workdir, out):
    """Writes the document on all runs that have ended; one process at a time."""
    with _lock(workdir, wait=True):
        paths = sorted(workdir.glob(f"*/*/{ablations_results.FILE}"))
        if not paths:
            return []
        found = [ablations_results.read(path.parent) for path in paths]
        with cli.user_errors(OSError):
            return ablations_document.write(found, out)


@contextlib.contextmanager
def _lock(folder: pathlib.Path, wait: bool = False) -> Iterator[bool]:
    """Keeps other processes out of a folder; it ends with the process at the latest.

    Args:
      folder: Made when it does not exist.
      wait: Whether to wait for another process to leave.

    Yields:
      Whether the folder is ours.

    Raises:
      cli.UserError: If it can't be made.
    """
    with cli.user_errors(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        # Not the lock of `workdirs.held`, which a training in this folder takes.
        file = (folder / ".ablations.lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def main() -> None:
    """Makes the runs of the config named on the command line, or lists them."""
    values = flags.FLAGS
    runs = plan(
        values.config, cli.config_file(), values.num_steps, values.only, values.workdir
    )
    if not values.list:
        ablate(runs, values.workdir, values.out)
        return
    for run in runs:
        print(f"{run.setting.name}: {run.setting.question}\n  {run.command}")
    print(f"{len(runs)} runs, {sum(run.config.num_steps for run in runs):,} steps")


def _define_flags():
    """The flags of the command; not on import, where others may have the same names."""
    num_runs = sum(len(setting.seeds) for setting in SETTINGS)
    cli.define_config()
    flags.DEFINE_integer(
        "num_steps",
        NUM_STEPS,
        f"Steps of each run. The whole list is {num_runs} runs; those at every pixel"
        " take several times as long as others.",
    )
    flags.DEFINE_list("only", [], "Names of settings to run; all by default.")
    flags.DEFINE_boolean("list", False, "Print the runs with their commands, no more.")
    flags.DEFINE_string("workdir", WORKDIR, "The folder of all runs.")
    flags.DEFINE_string("out", str(_OUT), "Where ABLATIONS.md and results/ are.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main, default_config=CONFIG)
