"""A workdir has one run at a time, whatever became of the one before."""

import errno
import fcntl
import os
import signal

import pytest

from experiments import cli
from experiments.run import config as run_config
from experiments.run.workdir import check_nothing_is_lost, lock
from tests.commands import run_python, without_access
from tests.tiny_runs import any_config

KILLED = """
import os, signal, sys
from experiments.run.workdir import lock
with lock(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_no_lock(tmp_path):
    """The lock is gone with the process, and who had it is forgotten."""
    killed = run_python("-c", KILLED, tmp_path)
    assert killed.returncode == -signal.SIGKILL
    before = (tmp_path / ".lock").read_text()
    with (
        lock(tmp_path),
        pytest.raises(cli.UserError, match=f"process {os.getpid()} on "),
        lock(tmp_path),
    ):
        pass
    assert before.startswith("process ") and str(os.getpid()) not in before


def test_the_lock_ends_with_the_run(tmp_path):
    """Also after an error, which a notebook may keep."""
    with pytest.raises(ZeroDivisionError) as kept, lock(tmp_path):
        _ = 1 // 0
    with lock(tmp_path):
        assert kept.value


def test_file_systems_without_locks(tmp_path, monkeypatch, capsys):
    """The run goes on, and a warning leaves it to the user to keep others out."""

    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock(tmp_path):
        said = capsys.readouterr().err
    assert said.startswith(f"warning: {tmp_path}/.lock can't be locked ([Errno")
    assert said.endswith(f"make sure that no other run uses {tmp_path}.\n")


def test_a_folder_that_cannot_be_read(tmp_path):
    """Is told as such, and not taken for an empty one."""
    workdir = tmp_path / "run"
    (workdir / "checkpoints").mkdir(parents=True)
    for check in (
        check_nothing_is_lost,
        lambda workdir: run_config.claim(workdir, any_config()),
    ):
        with (
            without_access(workdir),
            pytest.raises(cli.UserError, match="Permission den"),
        ):
            check(workdir)
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"]


def test_a_folder_that_cannot_be_made(tmp_path):
    """A file in the way is named."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(cli.UserError, match="file"),
        lock(tmp_path / "file" / "run"),
    ):
        pass
