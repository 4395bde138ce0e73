"""A workdir has one run at a time, of one config, some of whose values may change."""

import errno
import fcntl
import os

import numpy as np
import pytest

from experiments import cli
from experiments.configs import dsprites
from experiments.run import checkpoints
from experiments.run.workdir import claim, lock, read_config
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
    assert said.startswith(f"warning: {tmp_path}/.lock ")


@pytest.mark.parametrize("mode", [0, 0o555])
def test_a_folder_without_permission(tmp_path, mode):
    """A folder that can't be read or can't be written to is refused and left alone."""
    workdir = tmp_path / "run"
    (workdir / "checkpoints").mkdir(parents=True)
    with (
        without_access(workdir, mode),
        pytest.raises(cli.UserError, match=r"/run\b"),
    ):
        claim(workdir, any_config())
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"]


def _save(workdir, step=1):
    checkpoints.Checkpoints(workdir).save(
        step, {"weight": np.ones(2)}, checkpoints.Position({}, [])
    )


def test_checkpoints_without_a_config(tmp_path):
    """No run continues from checkpoints whose config is missing or damaged."""
    workdir = tmp_path / "run"
    claim(workdir, any_config())
    _save(workdir)
    (workdir / "config.json").unlink()
    with pytest.raises(cli.UserError, match=r"config\.json"):
        claim(workdir, any_config())
    (workdir / "config.json").write_text("{")
    with pytest.raises(cli.UserError, match=r"config\.json"):
        claim(workdir, any_config())


@pytest.mark.parametrize(
    ("there", "done", "here", "fits"),
    [
        ((10, 4), 6, (14, 4), True),  # it only comes later to the last stage
        ((10, 4), 8, (14, 4), False),  # two steps made would be of another stage
        ((10, 4), 5, (8, 4), False),
        ((10, 0), 10, (14, 0), True),
    ],
)
def test_steps_that_were_made_keep_their_stage(tmp_path, there, done, here, fits):
    """A run's length may change if no step made would then be of another stage."""
    configs = [dsprites.get_config("tiny") for _ in range(2)]
    for config, values in zip(configs, (there, here), strict=True):
        config.num_steps, config.tighten.steps = values
    claim(tmp_path, configs[0])
    _save(tmp_path, step=done)
    if fits:
        claim(tmp_path, configs[1])
        assert read_config(tmp_path) == configs[1]
        return
    expected = f"tighten.steps: {there[0] - there[1]} there, .* {done} steps"
    with pytest.raises(cli.UserError, match=expected):
        claim(tmp_path, configs[1])
