"""The checkpoints of a run, from which it continues exactly."""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import cli, files
from experiments.run import processes
from lavae_jax import runs


class Position(NamedTuple):
    """Holds how far a run has read its data and reported its metrics."""

    batches: dict[str, Any]  # state of the iterator over batches, as JSON can hold it
    rows: list[dict[str, float]]  # metrics of the latest steps, not yet reported


class Restored(NamedTuple):
    """Holds the content of a checkpoint, and the step it was made after."""

    step: int
    state: Any
    position: Position


class Checkpoints:
    """The checkpoints of one run.

    Arrays are stored as they are on the host, so that a run can resume, and a model be
    evaluated, on another number and kind of devices and processes. A checkpoint appears
    under its name once it is complete. It is synced to the disk, with checksums of its
    files, so that damage is noticed when it is read. Of several processes, only the
    first reads and writes checkpoints, but all must call the methods.
    """

    def __init__(self, workdir: str | pathlib.Path):
        self._workdir, self._folder = workdir, runs.checkpoint_folder(workdir)
        self._manager = processes.on_first(lambda: _manager(self._folder))

    def kept(self) -> str:
        """Says which checkpoints are left after an error; uses no other process."""
        if self._manager is None:
            return "Checkpoints are kept."
        step = self._manager.latest_step()
        if step is None:
            return "There is no checkpoint yet."
        return f"Checkpoints are kept, the last good one is of step {step}."

    def save(self, step: int, state: Any, position: Position) -> None:
        """Stores a checkpoint, unless there is one of this step.

        The state is any pytree of arrays and random keys (of JAX's default kind), on
        one device or the host. If the file system refuses, earlier checkpoints stay.
        """

        def write():
            if step == self._manager.latest_step():
                return
            kept = self.kept()
            try:
                self._write(step, state, position)
            except (OSError, ValueError) as error:
                # The disk may not hold all of this one: no run must continue from it.
                shutil.rmtree(self._folder / str(step), ignore_errors=True)
                self._manager.reload()
                raise cli.UserError(
                    f"the checkpoint of step {step} can't be written: {error}.\n"
                    f"{kept} Once {self._folder} can be written to, the same"
                    " command continues from there."
                ) from error

        processes.on_first(write)

    def _write(self, step, state, position):
        arrays = jax.tree.map(lambda x: np.asarray(_data(x)), state)
        size = sum(array.nbytes for array in jax.tree.leaves(arrays))
        # Without room, Orbax prints pages of tracebacks. It compresses the arrays, and
        # its other files are small.
        files.make_sure_of_room(self._folder, size + 2**20)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays),
                data=ocp.args.JsonSave(position._asdict()),
            ),
        )
        files.add_checksums(self._folder / str(step))

    def restore(self, template: Any) -> Restored | None:
        """Reads the latest checkpoint that is whole and of this run's model.

        Later ones that are not are moved to `damaged_checkpoints`; a warning says so.

        Returns:
            The checkpoint, its state as NumPy arrays (and random keys) in the structure
            of the template, which may be abstract; None for a run that has stored none.
        """
        expected = jax.eval_shape(lambda tree: jax.tree.map(_data, tree), template)
        newest = processes.on_first(lambda: self._newest(expected))
        step, leaves, position = newest or (None, [], None)
        step, position = processes.broadcast_json((step, position))
        if step is None:
            return None
        leaves = processes.broadcast_arrays(leaves, jax.tree.leaves(expected))
        state = jax.tree.unflatten(jax.tree.structure(template), leaves)
        state = jax.tree.map(_from_host, template, state)
        return Restored(step, state, Position(*position))

    def start_or_resume(self, init: Callable[[jax.Array], Any], seed: int) -> Restored:
        """Restores the latest checkpoint; without one, makes the first state of a run.

        `init` makes that state, from a key.
        """
        restored = self.restore(jax.eval_shape(init, jax.random.key(0)))
        if restored is None:
            return Restored(0, init(jax.random.key(seed)), Position({}, []))
        return restored

    def _newest(self, expected):
        """Reads step, arrays and position of the latest whole checkpoint, if any."""
        with cli.user_errors(ValueError, OSError):
            newest = runs.newest(
                self._workdir, lambda folder: self._read(int(folder.name), expected)
            )
            if newest is None:
                return None
            if newest.damaged:
                aside = self._folder.with_name("damaged_checkpoints")
                for damaged in newest.damaged:
                    files.set_aside(self._folder / str(damaged), aside)
                self._manager.reload()
                cli.warn(f"{newest.warning} What can't be used is kept in {aside}.")
            # A run that was killed before it wrote the checksums has none.
            files.add_checksums(self._folder / str(newest.step))
        return newest.step, *newest.content

    def _read(self, step, expected):
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(
                jax.tree.map(lambda x: np.empty(x.shape, x.dtype), expected)
            ),
            data=ocp.args.JsonRestore(),
        )
        try:
            stored = self._manager.restore(step, args=arguments)
        except ValueError as error:
            # Orbax fails with an unclear error where the model has other parts.
            raise ValueError(
                "it does not hold a whole state of this model and version"
            ) from error
        leaves = jax.tree.leaves(stored.state)
        # Orbax returns arrays of another shape without an error.
        for (path, want), got in zip(
            jax.tree.leaves_with_path(expected), leaves, strict=True
        ):
            if (want.shape, want.dtype) != (got.shape, got.dtype):
                raise ValueError(
                    f"{jax.tree_util.keystr(path)} is {got.dtype}{list(got.shape)},"
                    f" not {want.dtype}{list(want.shape)}"
                )
        return leaves, _position(stored.data)

    def close(self) -> None:
        """Ends the use of the folder."""
        # Each process does so alone: after an error the others may be elsewhere.
        if self._manager is not None:
            self._manager.close()


def _position(stored):
    try:
        return Position(**stored)
    except TypeError as error:
        raise ValueError("it does not hold the position in the data") from error


def _manager(folder):
    with cli.user_errors(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        files.sync(folder.parent)
        return ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=3,
                create=False,
                # This removes what killed runs have left behind.
                cleanup_tmp_directories=True,
                # The state is a few megabytes; and buffers donated to the next step
                # must not change under a copy in progress.
                enable_async_checkpointing=False,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=0, active_processes={0}
                ),
            ),
        )


def _is_key(x):
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _data(x):
    return jax.random.key_data(x) if _is_key(x) else x


def _from_host(template, x):
    return jax.random.wrap_key_data(x) if _is_key(template) else x
