"""A workdir has one run at a time, whatever became of the one before."""

import errno
import fcntl
import os

import pytest

from experiments import cli
from experiments.run.workdir import claim, lock
from tests.commands import without_access
from tests.tiny_runs import any_config


def test_one_run_at_a_time(tmp_path):
    """A second run is refused while the first goes on, and not after its error."""
    with pytest.raises(ZeroDivisionError), lock(tmp_path):
        message = f"process {os.getpid()} on "
        with pytest.raises(cli.UserError, match=message), lock(tmp_path):
            pass
        _ = 1 // 0
    with lock(tmp_path):
        pass


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
    with (
        without_access(workdir),
        pytest.raises(cli.UserError, match="Permission den"),
    ):
        claim(workdir, any_config())
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"]
