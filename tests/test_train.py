"""The command from its flags to a trained model, with the model and data themselves."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import lavae_jax
from experiments import build, checkpoints, cli, input_pipeline, loop

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "experiments/configs/dsprites.py:tiny"


def _config(data_dir, num_steps):
    config = cli.load_config(str(ROOT / CONFIG))
    config.data.data_dir = data_dir
    config.num_steps = num_steps
    config.batch_size = 8
    config.update(log_every=1, checkpoint_every=2, eval_every=100, picture_every=100)
    return config


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where the tiny data set is generated, once for all tests of a process."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data_dir):
    """A run of four steps on one device."""
    workdir = tmp_path_factory.mktemp("unbroken")
    loop.train_and_evaluate(_config(data_dir, 4), workdir, jax.devices()[:1])
    return workdir


def _state(workdir, config):
    template = jax.eval_shape(build.build(config).init, jax.random.key(0), None)
    state = checkpoints.Checkpoints(workdir).restore(template).state
    return state._replace(key=jax.random.key_data(state.key))


def _train_rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {
        row["step"]: {k: v for k, v in row.items() if "per_second" not in k}
        for row in rows
        if row["part"] == "train"
    }


@pytest.mark.standard_promotion
def test_goes_on_exactly_where_it_was(tmp_path, data_dir, unbroken):
    """Two steps and two more are bitwise the state and metrics of four."""
    for num_steps in (2, 4):
        config = _config(data_dir, num_steps)
        loop.train_and_evaluate(config, tmp_path, jax.devices()[:1])
    jax.tree.map(
        np.testing.assert_array_equal,
        _state(tmp_path, config),
        _state(unbroken, config),
    )
    assert _train_rows(tmp_path) == _train_rows(unbroken)


@pytest.mark.standard_promotion
def test_several_devices_make_the_same_steps(tmp_path, data_dir, unbroken):
    """On four devices, metrics and state are those of one, up to the order of sums."""
    config = _config(data_dir, 4)
    loop.train_and_evaluate(config, tmp_path, jax.devices())
    four, one = _train_rows(tmp_path), _train_rows(unbroken)
    for step, row in one.items():
        for name, value in row.items():
            if name != "part":
                assert four[step][name] == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_a_trained_model_sees_scenes(data_dir, unbroken):
    """The stored variables are the ones the library's functions take."""
    config, step, variables = checkpoints.restore_variables(unbroken)
    assert step == 4
    held_out = input_pipeline.load_data(config).held_out
    model = build.build_model(config)
    scene = jax.jit(lambda x: lavae_jax.infer(model, variables, x))(held_out.images[:4])
    assert scene.yx.shape == (4, config.model.max_objects, 2)


def test_the_command(tmp_path, data_dir):
    """`python -m experiments.train` as the README has it, with overrides."""
    command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG}"]
    result = subprocess.run(
        [
            *command,
            f"--workdir={tmp_path / 'run'}",
            f"--config.data.data_dir={data_dir}",
            "--config.num_steps=2",
            "--config.batch_size=4",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'run'}: ")
    assert lines[-2].startswith("step 2/2  held-out scenes  count_accuracy ")
    assert list((tmp_path / "run" / "pictures").glob("*.png"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.optimizer.name=sgd", "optimizer.name must be one of adamax, adam"),
        ("--config.model.sprite_size=20", "model.sprite_size must be odd: got 20"),
        ("--config.batch_size=0", "batch_size must be at least 1: got 0"),
    ],
)
def test_impossible_values_are_refused_at_the_start(tmp_path, override, message):
    """One message, before the workdir or the data exist."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.train", f"--config={CONFIG}"),
            f"--workdir={tmp_path / 'run'}",
            f"--config.data.data_dir={tmp_path / 'data'}",
            override,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}")
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
