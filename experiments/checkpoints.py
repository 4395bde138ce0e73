"""The workdir of a run: its config, and checkpoints that it goes on from exactly."""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from experiments import cli, processes
from lavae_jax import runs

# What may change between two parts of one run: how long it goes on, what is reported
# on the way, and where the same data lies. None of it changes a step already made.
# Schedules that end with the run are from then on those of the new length: what a run
# needs that is to end earlier or later than planned. After the end of a cosine the
# learning rates rise again, which `claim` says.
FREE = (
    "num_steps",
    "log_every",
    "eval_every",
    "picture_every",
    "checkpoint_every",
    "num_eval_images",
    "data.data_dir",
    "data.manual_dir",
)

# What the runs of earlier versions did, whose configs have no value for it.
ADDED = {"precision": "float32"}


class Restored(NamedTuple):
    """A checkpoint: the step it was made after, the state, and the data's position."""

    step: int
    state: Any
    data_state: dict[str, Any]


class Trained(NamedTuple):
    """A trained model: its config, its step and the variables of the model."""

    config: ConfigDict
    step: int
    variables: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Arrays are stored as they are on the host, so that a run can go on, and a model be
    evaluated, on another number and kind of devices and processes. A checkpoint appears
    under its name once it is complete. Of several processes the first alone reads and
    writes them, but all must call the methods.

    Args:
      workdir: The run's folder; made when it does not exist.
      max_to_keep: How many checkpoints stay: the latest ones.
    """

    def __init__(self, workdir: str | pathlib.Path, max_to_keep: int = 3):
        self._folder = runs.checkpoint_folder(workdir)
        self._manager = processes.on_first(lambda: _manager(self._folder, max_to_keep))

    def latest_step(self) -> int | None:
        """Returns the step of the latest checkpoint, None without one."""
        return processes.from_first(lambda: self._manager.latest_step())

    def save(self, step: int, state: Any, data_state: dict[str, Any]) -> None:
        """Stores a checkpoint, unless there is one of this step.

        Args:
          step: Number of steps made.
          state: Any pytree of arrays and random keys (of JAX's default kind), on one
            device or the host.
          data_state: The position of the data iterator, as JSON can hold it.

        Raises:
          cli.UserError: If the file system refuses.
        """

        def write():
            if step == self._manager.latest_step():
                return
            with cli.user_errors(OSError):
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(jax.tree.map(_to_host, state)),
                        data=ocp.args.JsonSave(data_state),
                    ),
                )

        processes.on_first(write)

    def restore(self, template: Any) -> Restored | None:
        """Reads the latest checkpoint.

        Args:
          template: A state of the structure, shapes and dtypes to expect; it may be
            abstract, as `jax.eval_shape` gives it.

        Returns:
          The checkpoint, its state as NumPy arrays (and random keys) in the structure
          of the template; None without one.

        Raises:
          cli.UserError: If it can't be read or is of another model.
        """
        found = processes.from_first(lambda: self._read(template))
        if found is None:
            return None
        step, leaves, data_state = found
        state = jax.tree.unflatten(jax.tree.structure(template), leaves)
        return Restored(step, jax.tree.map(_from_host, template, state), data_state)

    def _read(self, template):
        """Step, arrays and the data's position of the latest; None without one."""
        step = self._manager.latest_step()
        if step is None:
            return None
        expected = jax.eval_shape(lambda tree: jax.tree.map(_data, tree), template)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(
                jax.tree.map(lambda x: np.empty(x.shape, x.dtype), expected)
            ),
            data=ocp.args.JsonRestore(),
        )
        try:
            stored = self._manager.restore(step, args=arguments)
        except (ValueError, KeyError, OSError) as error:
            raise self._unreadable(step, error) from error
        leaves = jax.tree.leaves(stored.state)
        # Orbax hands back an array of another shape without a word.
        for (path, want), got in zip(
            jax.tree.leaves_with_path(expected), leaves, strict=True
        ):
            if (want.shape, want.dtype) != (got.shape, got.dtype):
                raise self._unreadable(
                    step,
                    f"{jax.tree_util.keystr(path)} is {got.dtype}{list(got.shape)},"
                    f" not {want.dtype}{list(want.shape)}",
                )
        return step, leaves, stored.data

    def close(self) -> None:
        """Ends the use of the folder."""
        # Not in step with the others, who may have come to another end.
        if self._manager is not None:
            self._manager.close()

    def _unreadable(self, step, why):
        return cli.UserError(str(runs.unreadable(self._folder / str(step), why)))


def _manager(folder, max_to_keep):
    """Orbax's manager, for use by the first process alone."""
    with cli.user_errors(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=max_to_keep,
                create=False,
                # The state is a few megabytes; and buffers donated to the next step
                # must not change under a copy in progress.
                enable_async_checkpointing=False,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=0, active_processes={0}
                ),
            ),
        )


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
    if path.exists() and (steps := runs.checkpoint_steps(workdir)):
        there, here = read_config(workdir), from_json(json.loads(config.to_json()))
        if found := differences(there, here):
            raise cli.UserError(
                "\n".join(
                    [
                        f"{workdir} holds a run with another config:",
                        *found,
                        "Give this run another --workdir, or the config of that one.",
                    ]
                )
            )
        _tell_new_length(workdir, steps[-1], cli.flatten(there), cli.flatten(here))
    with cli.user_errors(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(".config.json.unfinished")
        unfinished.write_text(config.to_json(indent=2) + "\n")
        unfinished.replace(path)


def _tell_new_length(workdir, done, old, new):
    """Says what another length does to the learning rates of a run."""
    before, after = old.get("num_steps"), new["num_steps"]
    if done < after != before and new.get("optimizer.decay") == "cosine":
        print(
            f"{workdir} was to end after step {before}, and now does after step"
            f" {after}: from step {done} on, its learning rates jump to those of a run"
            f" of {after} steps (optimizer.decay=cosine). For such a run from its"
            " start, take another --workdir."
        )


def differences(there: ConfigDict, here: ConfigDict) -> list[str]:
    """What keeps two configs from being of one run: a line per value, `FREE` aside."""
    old, new = cli.flatten(there), cli.flatten(here)
    return [
        f"  {name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} here"
        for name in sorted(old.keys() | new.keys())
        if name not in FREE and old.get(name) != new.get(name)
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


def restore_variables(workdir: str | pathlib.Path) -> Trained:
    """Reads the latest model of a run.

    Args:
      workdir: A folder that `experiments.train` has made.

    Returns:
      The config, the step, and the model's variables as NumPy arrays.

    Raises:
      cli.UserError: If there is none, or it can't be read.
    """
    with cli.user_errors(ValueError, OSError):
        run = runs.read(workdir)
    return Trained(from_json(run.config), run.step, run.variables)


def from_json(config: dict[str, Any]) -> ConfigDict:
    """The config of a run from what its file holds, also of an earlier version.

    JSON has lists where a config has tuples.
    """
    return ConfigDict(ADDED | _tuples(config))


def _is_key(x):
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _data(x):
    return jax.random.key_data(x) if _is_key(x) else x


def _to_host(x):
    return np.asarray(_data(x))


def _from_host(template, x):
    return jax.random.wrap_key_data(x) if _is_key(template) else x


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
