"""The config of a run, which its workdir keeps, and what may change in it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import cli
from experiments.run import files
from lavae_jax import runs

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
)
# A config of an older version, in which this name is missing, means this value.
ADDED = {"precision": "float32"}
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


def _last_stage(config: Mapping[str, Any]) -> int:
    """The steps before those that tighten the bound."""
    tighten = config.get("tighten", {}).get("steps", 0)
    return config.get("num_steps", 0) - tighten


def _changed_steps(done, stored, new):
    """Tells which of the steps made would be of another stage, in a line."""
    before, after = _last_stage(stored), _last_stage(new)
    if min(done, before) != min(done, after):
        yield (
            f"  num_steps - tighten.steps: {before} there, {after} here, of {done}"
            " steps made"
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
    old_ends, new_ends = (
        (_last_stage(config), config.get("num_steps", 0)) for config in (stored, new)
    )
    for begin, before, after in zip((0, new_ends[0]), old_ends, new_ends, strict=True):
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
    result = ConfigDict(ADDED)
    known = {name: value for name, value in config.items() if name not in REMOVED}
    result.update(_tuples(known))
    return result


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
