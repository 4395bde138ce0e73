"""A workdir is that of one config, and some of it may change."""

import numpy as np
import pytest

from experiments import cli
from experiments.configs import dsprites
from experiments.run import checkpoints
from experiments.run import workdir as run_workdir
from tests.tiny_runs import any_config


def _save(workdir, step=1):
    checkpoints.Checkpoints(workdir).save(
        step, {"weight": np.ones(2)}, checkpoints.Position({}, [])
    )


def test_checkpoints_without_a_config(tmp_path):
    """Whose they are is not known: no run takes them for its own."""
    workdir = tmp_path / "run"
    run_workdir.claim(workdir, any_config())
    _save(workdir)
    (workdir / "config.json").unlink()
    with pytest.raises(cli.UserError, match=r"holds checkpoints, but no config\.json"):
        run_workdir.claim(workdir, any_config())
    (workdir / "config.json").write_text("{")
    with pytest.raises(cli.UserError, match=r"config\.json can't be read"):
        run_workdir.claim(workdir, any_config())


def test_a_run_may_be_extended(tmp_path):
    """The same config, or one that differs in length only, goes on; it is kept."""
    run_workdir.claim(tmp_path, any_config())
    _save(tmp_path)
    run_workdir.claim(tmp_path, any_config())
    run_workdir.claim(tmp_path, any_config(num_steps=20))
    assert run_workdir.read_config(tmp_path) == any_config(num_steps=20)


@pytest.mark.parametrize(
    ("there", "done", "here", "fits"),
    [
        ((10, 4), 6, (14, 4), True),  # it only comes later to the last stage
        ((10, 4), 8, (14, 4), False),  # two of the steps made would be others
        ((10, 4), 5, (8, 4), False),
        ((10, 0), 10, (14, 0), True),
    ],
)
def test_steps_that_were_made_keep_their_stage(tmp_path, there, done, here, fits):
    """A run's length may change as far as no step made is of another stage then."""
    configs = [dsprites.get_config("tiny") for _ in range(2)]
    for config, values in zip(configs, (there, here), strict=True):
        config.num_steps, config.tighten.steps = values
    run_workdir.claim(tmp_path, configs[0])
    _save(tmp_path, step=done)
    if fits:
        run_workdir.claim(tmp_path, configs[1])
        return
    expected = f"tighten.steps: {there[0] - there[1]} there, .* {done} steps"
    with pytest.raises(cli.UserError, match=expected):
        run_workdir.claim(tmp_path, configs[1])
