"""A workdir belongs to one run at a time, and no run begins anew in it by mistake."""

import contextlib
import datetime
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import TextIO

from ml_collections import ConfigDict

from experiments import cli
from experiments.run import config as run_config
from experiments.run import processes, progress
from lavae_jax import runs


@contextlib.contextmanager
def open_workdir(workdir: str | pathlib.Path, config: ConfigDict) -> Iterator[None]:
    """Makes a workdir the one of a run, and keeps other runs out of it meanwhile.

    Of several processes the first does so for all.

    Args:
        workdir: The run's folder; made when it does not exist.
        config: The run's config, which is kept there.

    Raises:
        cli.UserError: If another run holds it, it is that of another config, its
            checkpoints are gone, or it can't be written to.
    """
    with lock(workdir):
        processes.on_first(lambda: check_nothing_is_lost(workdir))
        processes.on_first(lambda: run_config.claim(workdir, config))
        yield


@contextlib.contextmanager
def lock(workdir: str | pathlib.Path) -> Iterator[None]:
    """Keeps other runs out of a workdir, which is made when it does not exist.

    The operating system holds the lock for as long as this process lives: one that was
    killed leaves none behind. File systems shared by several hosts keep it between them
    where they support `flock` (NFS since version 3 with its lock service, Lustre when
    mounted with `flock`); where one does not, a warning says so. Of several processes
    the first holds it for all.

    Raises:
        cli.UserError: If another run holds it, or the folder can't be written to.
    """
    held = processes.on_first(lambda: _take(pathlib.Path(workdir)))
    try:
        yield
    finally:
        if held is not None:
            held.close()


def _take(workdir: pathlib.Path) -> TextIO:
    """The open file that the lock is on; it says who has it."""
    path = workdir / ".lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise cli.UserError(
            f"the --workdir {workdir} can't be written to: {error}."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with lock:
            lock.seek(0)
            holder = lock.read().strip() or "one that has just started"
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
        lock.truncate(0)
        lock.write(
            f"process {os.getpid()} on {socket.gethostname()}, since"
            f" {datetime.datetime.now():%Y-%m-%d %H:%M:%S}\n"
        )
        lock.flush()
    return lock


def check_nothing_is_lost(workdir: str | pathlib.Path) -> None:
    """Refuses to begin a run anew where an earlier one has lost its checkpoints.

    Raises:
        cli.UserError: If there is no checkpoint, though steps were reported that come
            after one.
    """
    workdir = pathlib.Path(workdir)
    with cli.user_errors(ValueError, OSError):
        if runs.checkpoint_steps(workdir):
            return
        last = max((row["step"] for row in progress.rows(workdir)), default=0)
        # A step's report comes before its checkpoint, and the config before both.
        known = last and (workdir / "config.json").exists()
        every = runs.read_config(workdir).get("checkpoint_every", 0) if known else 0
    if last > every:
        raise cli.UserError(
            f"{workdir} was trained to step {last}, but its checkpoints are gone: put"
            f" {runs.checkpoint_folder(workdir)} back, or give this run another"
            f" --workdir. To begin anew, delete {progress.table(workdir)}."
        )
