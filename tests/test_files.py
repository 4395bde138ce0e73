"""What is stored is on the disk, whatever becomes of the machine."""

import errno
import os
import pathlib
import stat
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.run import checkpoints, files, progress
from lavae_jax import plotting, runs


class _Terms(NamedTuple):
    elbo: float


def _position(step):
    return checkpoints.Position({"next_index": step}, [])


@pytest.fixture
def synced(monkeypatch):
    """The files and folders that the disk was waited for, by their inodes."""
    found, fsync = set(), os.fsync

    def noted(descriptor):
        found.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_a_checkpoint_is_on_the_disk(tmp_path, synced):
    """All of its files and folders, its checksums, and its name among the others."""
    store = checkpoints.Checkpoints(tmp_path)
    store.save(1, {"weights": jnp.ones(3)}, _position(1))
    store.close()
    folder = tmp_path / "checkpoints"
    paths = (tmp_path, folder, *folder.rglob("*"))
    inodes = {path: path.stat().st_ino for path in paths}
    assert folder / "1" / "SHA256SUMS" in inodes
    assert not [path for path, inode in inodes.items() if inode not in synced]


def test_reports_are_on_the_disk(tmp_path, synced):
    """Those before a checkpoint, which goes on from there."""
    report = progress.Progress(tmp_path, 10, 1)
    report.train(5, _Terms(-1.0))
    picture = report.picture(5, plotting.samples_grid(np.zeros((1, 4, 4, 1))))
    report.flush()
    paths = (progress.table(tmp_path), picture)
    for path in (*paths, *(path.parent for path in paths)):
        assert path.stat().st_ino in synced
    report.close()


def _refuse(monkeypatch, number, is_of):
    """The disk refuses files of a kind."""

    def fsync(descriptor):
        if is_of(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_disk_that_fails(tmp_path, monkeypatch):
    """Is told at once: the checkpoint may not be there tomorrow."""
    store = checkpoints.Checkpoints(tmp_path)
    store.save(1, {"weights": jnp.ones(3)}, _position(1))
    _refuse(monkeypatch, errno.EIO, stat.S_ISREG)
    message = r"of step 2 can't be written: \[Errno 5\] .*\n.* good one is of step 1\. "
    with pytest.raises(cli.UserError, match=message):
        store.save(
            2, {"weights": jnp.ones(3)}, checkpoints.Position({"next_index": 2}, [])
        )
    assert runs.checkpoint_steps(tmp_path) == [1]
    store.close()


def test_file_systems_that_keep_no_folders(tmp_path, monkeypatch):
    """There is nothing to wait for then."""
    _refuse(monkeypatch, errno.EINVAL, stat.S_ISDIR)
    files.write(pathlib.Path(tmp_path, "text"), "written")
    assert (tmp_path / "text").read_text() == "written"
