"""What can't be used ends each command with a clear message, and nothing is lost."""

import os
import shutil

import numpy as np
import pytest

from experiments import cli, evaluate, train
from experiments.run import build
from experiments.run.workdir import lock
from tests import tiny_models, tiny_runs
from tests.commands import ROOT, run_here

CONFIGS = "experiments/configs"
CONFIG = f"{CONFIGS}/dsprites.py:tiny"


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    """Runs commands from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """Makes the workdir of a run of the tiny config, for tests to copy."""
    config = cli.load_config(str(ROOT / CONFIG))
    config.data.data_dir = data_dir
    workdir = tmp_path_factory.mktemp("trained") / "run"
    variables = tiny_models.random_variables(build.build_model(config))
    tiny_runs.save_run(workdir, config, {1: variables})
    return workdir


def _contents(folder):
    """Returns every file with its content, except locks."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != ".lock"
    }


def _refused(folder, module, *arguments):
    """Returns the message of a command that is refused, and checks the files.

    The message has no traceback, and what was in the folder is still there.
    """
    before = _contents(folder)
    status, said = run_here(module, *arguments)
    assert (status, said[:7]) == (1, "error: "), said
    assert "Traceback" not in said
    after = _contents(folder)
    assert {path: after.get(path) for path in before} == before
    return said[7:]


def _refused_training(folder, *arguments):
    """Returns the message of a training that is refused."""
    return _refused(folder, train, *arguments, "--nodistributed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images={grey}"], "the value 0.5 at (0, 0, 0)"),
        (["--images={empty}"], ".png"),
        (["--splits=valid"], "'valid'"),
        (["--weights=multi_dsprites"], "--workdir"),
        (["--images=own.npz", "--splits=test"], "exclude each other"),
        (["--workdir={empty}"], "config.json"),
        (["--workdir={damaged}"], "checkpoint"),
        (["--data_dir={data}", "--splits=test"], "damaged"),
        (["--out={grey}"], "grey.npz"),
    ],
)
@pytest.mark.standard_promotion
def test_evaluations(trained, tmp_path, data_dir, arguments, message):
    """`experiments.evaluate` refuses wrong images, values, workdirs and folders."""
    given = {name: tmp_path / name for name in ("empty", "damaged", "data", "grey.npz")}
    given["empty"].mkdir()
    np.savez(given["grey.npz"], np.full((2, 64, 64, 3), 0.5))
    _truncate_split("test", shutil.copytree(data_dir, given["data"]))
    shutil.copytree(trained, given["damaged"])
    for path in (given["damaged"] / "checkpoints").rglob("_METADATA"):
        path.write_text("{}")
    given["grey"] = given.pop("grey.npz")
    filled_in = [argument.format(**given) for argument in arguments]
    said = _refused(tmp_path, evaluate, f"--workdir={trained}", *filled_in)
    assert message in said


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (f"{CONFIGS}/dsprites.py:huge", "'huge'"),
        (f"{CONFIGS}/base.py", "get_config"),
        (f"{CONFIGS}/sprites.py", "experiments/configs/sprites.py"),
    ],
)
def test_configs(tmp_path, config, message):
    """A config file or variant that does not exist is refused by name."""
    assert message in _refused_training(tmp_path, f"--config={config}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed must be from 0 to 4294967295"),
        ("num_eval_images=65", "must be from 1 to data.num_valid = 64"),
        ("data.name=multi_mnist/1k", "multi_mnist/1k"),
        ("model.max_objects=2", "3 objects"),
        ("optimizer.learning_rate=inf", "must be positive: got inf."),
    ],
)
def test_values_of_the_config(tmp_path, data_dir, override, message):
    """`experiments.train` refuses impossible values before there is a workdir."""
    said = _refused_training(
        tmp_path,
        f"--config={CONFIG}",
        f"--config.data.data_dir={data_dir}",
        f"--config.{override}",
        f"--workdir={tmp_path}/run",
    )
    assert message in said
    assert not (tmp_path / "run").exists()


def _truncate_split(split, data):
    (path,) = data.rglob(f"*-{split}.array_record*")
    os.truncate(path, path.stat().st_size // 2)


def test_workdirs(trained, tmp_path, data_dir):
    """A workdir that is a file, that another run has, or that is in use is refused."""
    flags = (
        f"--config={CONFIG}",
        f"--config.data.data_dir={data_dir}",
        "--config.seed=1",
    )
    (tmp_path / "file").touch()
    said = _refused_training(tmp_path, *flags, f"--workdir={tmp_path}/file")
    assert f"{tmp_path}/file" in said
    shutil.copytree(trained, tmp_path / "run")
    said = _refused_training(tmp_path, *flags, f"--workdir={tmp_path}/run")
    assert "seed: 0 there, 1 here" in said
    with lock(tmp_path / "used"):
        said = _refused_training(tmp_path, *flags, f"--workdir={tmp_path}/used")
    assert f"{tmp_path}/used" in said
