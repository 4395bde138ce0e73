"""The command from its flags to a trained model, with the model and data themselves."""

import shutil

import jax
import numpy as np
import pytest

from experiments import cli, train
from experiments.run import build, checkpoints, loop
from lavae_jax.training.parallel import Devices
from tests import tiny_runs
from tests.commands import ROOT, run_here

CONFIG = "experiments/configs/dsprites.py:tiny"


LENGTHS = dict(
    num_steps=4,
    batch_size=8,
    log_every=1,
    checkpoint_every=2,
    eval_every=4,
    picture_every=4,
)
# One step of each stage but those that train everything except h_loc.
STAGES = {
    "warmup.auxiliary_steps": 1,
    "warmup.guided_steps": 1,
    "elbo.location_every": 1,
    "elbo.appearance_updates": 1,
    "tighten.steps": 1,
}


@pytest.fixture(scope="module")
def config(data_dir):
    """Four steps, one of each stage; a checkpoint after every other one."""
    config = cli.load_config(str(ROOT / CONFIG))
    config.data.data_dir = data_dir
    config.update_from_flattened_dict(STAGES)
    config.update(LENGTHS)
    return config


@pytest.fixture(scope="module")
def experiment(config):
    """What all runs on one device train, so that it is compiled once."""
    return build.build(config)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, config, experiment):
    """The workdir of a run on one device."""
    workdir = tmp_path_factory.mktemp("unbroken")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        loop.run(experiment, config, workdir, Devices(jax.devices()[:1]))
    return workdir


def _state(workdir, experiment):
    template = jax.eval_shape(experiment.init, jax.random.key(0))
    state = checkpoints.Checkpoints(workdir).restore(template).state
    return state._replace(key=jax.random.key_data(state.key))


@pytest.mark.standard_promotion
def test_goes_on_exactly_where_it_was(tmp_path, config, experiment, unbroken):
    """A run killed after step 2 makes bitwise the steps it would have made."""
    killed = tmp_path / "killed"
    shutil.copytree(unbroken, killed)
    shutil.rmtree(killed / "checkpoints" / "4")
    loop.run(experiment, config, killed, Devices(jax.devices()[:1]))
    jax.tree.map(
        np.testing.assert_array_equal,
        _state(killed, experiment),
        _state(unbroken, experiment),
    )
    rows = tiny_runs.rows(killed, "train")
    assert rows == tiny_runs.rows(unbroken, "train")
    assert len({row["loss"] for row in rows}) == 4


@pytest.mark.standard_promotion
def test_the_command(tmp_path, data_dir, capsys, monkeypatch):
    """The command of the README trains, with overrides, and reports to its workdir."""
    # On one device and with the values of the runs above nothing is compiled again.
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    status, said = run_here(
        train,
        f"--config={ROOT / CONFIG}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.data_dir={data_dir}",
        *(f"--config.{name}={value}" for name, value in (LENGTHS | STAGES).items()),
        "--nodistributed",
    )
    assert (status, said) == (0, "")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'run'}: ")
    looked = "step 4/4  held-out scenes  count_accuracy "
    assert any(line.startswith(looked) for line in lines)
    assert list((tmp_path / "run" / "pictures").glob("*.png"))
