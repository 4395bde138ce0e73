"""The config of a run, which its workdir keeps, and what may change in it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments import cli
from experiments.run import files
from lavae_jax import runs
from lavae_jax.config import is_baseline

# These values may change when a run goes on, as they change no step already made. Where
# the length changes, schedules that end with the run become those of the new length, so
# that a run can end earlier or later than planned. After the end of a cosine the
# learning rates rise again; `claim` says so.
FREE = (
    "num_steps",
    "log_every",
    "eval_every",
    "picture_every",
    "checkpoint_every",
    "num_eval_images",
    "data.data_dir",
    "data.manual_dir",
    "data.path",
    "touching.steps",
    "touching.learning_rate",
    "importance.steps",
    "importance.num_samples",
    "importance.elbo_share",
    "importance.learning_rate",
)
# A config of an older version, in which these names are missing, means these values.
ADDED = {"precision": "float32"}
ADDED_TO_LAVAE = {
    "touching": {"steps": 0, "learning_rate": 1e-3},
    "importance": {
        "steps": 0,
        "num_samples": 8,
        "elbo_share": 0.1,
        "learning_rate": 1e-3,
    },
    "warmup": {"orphans": 3},
}
# Older versions wrote these names; they mean nothing any more.
REMOVED = ("num_seeds", "on_nan")


def claim(workdir: str | pathlib.Path, config: ConfigDict) -> None:
    """Makes a workdir the one of this config, or refuses when it is another's.

    Prints a line where the run's new length changes its learning rates.

    Args:
        workdir: The run's folder; made when it does not exist.
        config: The run's config, kept there as `config.json`.

    Raises:
        cli.UserError: If the folder holds checkpoints of a run with another config: the
            message lists the differences. Those of `FREE` are allowed.
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
        if lines := [
            *differences(stored, new),
            *_changed_steps(steps[-1], stored, new),
        ]:
            raise cli.UserError(
                "\n".join(
                    [
                        f"{workdir} holds a run with another config:",
                        *lines,
                        *_changed_images(stored, new),
                        "Give this run another --workdir, or the config of that one.",
                    ]
                )
            )
        _tell_new_length(workdir, steps[-1], stored, new)
    with cli.user_errors(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, config.to_json(indent=2) + "\n")


class Ends(NamedTuple):
    """Up to which step a run is of each kind; the baseline's are all of one kind.

    Attributes:
        joint_steps: The steps that train all of the model; those on touching scenes
            follow.
        importance_after: The steps before those on an importance-weighted bound.
        num_steps: All of them.
    """

    joint_steps: int
    importance_after: int
    num_steps: int


def ends(config: Mapping[str, Any]) -> Ends:
    """Where the kinds of steps end in a run of a config."""
    num_steps = config.get("num_steps", 0)
    last = num_steps - config.get("importance", {}).get("steps", 0)
    return Ends(last - config.get("touching", {}).get("steps", 0), last, num_steps)


def begun(config: ConfigDict, done: int) -> dict[str, tuple[int, Any]]:
    """The settings of single parts' steps that went into the first `done` steps.

    Returns:
        For each the step after which it counts, and its value.
    """
    joint, weighted, _ = ends(config)
    values = cli.flatten(config)
    names = {
        "touching.learning_rate": (joint, min(done, weighted)),
        "importance.learning_rate": (weighted, done),
        "importance.num_samples": (weighted, done),
        "importance.elbo_share": (weighted, done),
    }
    return {
        name: (begin, values[name])
        for name, (begin, end) in names.items()
        if begin < end
    }


def _changed_steps(done, stored, new):
    """Tells which of the steps made would be others by the new config, a line each."""
    names = (
        "num_steps - importance.steps - touching.steps",
        "num_steps - importance.steps",
    )
    for name, before, after in zip(names, ends(stored), ends(new), strict=False):
        if min(done, before) != min(done, after):
            yield f"  {name}: {before} there, {after} here, of {done} steps made"
    values = cli.flatten(new)
    for name, (begin, before) in begun(stored, done).items():
        if before != values.get(name):
            yield (
                f"  {name}: {before} there, {values.get(name)} here, from step {begin}"
                " on"
            )


def _changed_images(stored, new):
    """Tells whether the user's images are not those of the run, in a line."""
    before, now = (
        config.get("data", {}).get("fingerprint") for config in (stored, new)
    )
    if before and now and before != now:
        yield "The images are others than the run was begun with (data.fingerprint)."


def _tell_new_length(workdir, done, stored, new):
    """Prints what another length does to the learning rates of a run."""
    if new.get("optimizer", {}).get("decay") != "cosine":
        return
    new_ends = ends(new)
    for begin, before, after in zip(
        (0, *new_ends), ends(stored), new_ends, strict=False
    ):
        if begin < done < after != before:
            print(
                f"The learning rates of {workdir} were to fall until step {before}, and"
                f" now do until step {after}: from step {done} on, they jump to those"
                " of such a run (optimizer.decay=cosine). For one from its start, take"
                " another --workdir."
            )
            return


def differences(stored: ConfigDict, new: ConfigDict) -> list[str]:
    """Tells what keeps two configs from being of one run, a line per value.

    Args:
        stored: The config that is called "there" in the lines.
        new: The one that is called "here". Values of `FREE` may differ.
    """
    there, here = cli.flatten(stored), cli.flatten(new)
    return [
        f"  {name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in sorted(there.keys() | here.keys())
        if name not in FREE and there.get(name) != here.get(name)
    ]


def read_config(workdir: str | pathlib.Path) -> ConfigDict:
    """Returns the config of the run in a workdir.

    Args:
        workdir: A folder that `experiments.train` has made.

    Raises:
        cli.UserError: If it holds no config.
    """
    with cli.user_errors(ValueError, OSError):
        return from_json(runs.read_config(workdir))


def from_json(config: dict[str, Any]) -> ConfigDict:
    """Returns the config that a run's file holds, with tuples where JSON has lists."""
    of_model = {} if is_baseline(config) else ADDED_TO_LAVAE
    result = ConfigDict(ADDED | of_model)
    known = {name: value for name, value in config.items() if name not in REMOVED}
    result.update(_tuples(known))
    return result


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
