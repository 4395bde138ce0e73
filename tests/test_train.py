"""The commands train, resume and measure models as their flags say."""

import contextlib
import io
import pathlib
import shutil
from typing import NamedTuple

import jax
import numpy as np
import pytest

import lavae_jax
from datasets import floors
from experiments import cli, evaluate, train
from experiments.measure import measure, report
from experiments.run import build, checkpoints, loop
from experiments.run import workdir as run_workdir
from lavae_jax.training.parallel import Devices
from tests import tiny_runs
from tests.commands import ROOT, run_here
from tests.joined_processes import finished

# distrax and optax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

CONFIG = "experiments/configs/dsprites.py:tiny"
BASELINE = "experiments/configs/baseline.py:dsprites:tiny"

_SETTINGS = measure.Settings(num_images=5, num_samples=12)
# The run has a step of each of its three stages, whose learning rates do not rise from
# 0. A single buffer, for all slots, is compiled in half the time of two.
VALUES = {
    "num_steps": 3,
    "batch_size": 8,
    "log_every": 1,
    "checkpoint_every": 1,
    "eval_every": 3,
    "picture_every": 3,
    "model.objects_per_image": 10.0,
    "optimizer.rise_steps": 0,
    "warmup.auxiliary_steps": 1,
    "warmup.guided_steps": 1,
    "elbo.appearance_updates": 1,
    "tighten.steps": 0,
}


class Trained(NamedTuple):
    """Holds what the command leaves behind, what it trains, and what it prints."""

    workdir: pathlib.Path
    experiment: build.Experiment
    printed: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """Trains by the command of the README, on one device, with a step of each stage."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    built, printed, build_it = [], io.StringIO(), build.build

    def noted(config, axis_name):
        built.append(build_it(config, axis_name))
        return built[-1]

    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        patch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
        patch.setattr(build, "build", noted)
        ended = run_here(
            train,
            f"--config={ROOT / CONFIG}",
            f"--workdir={workdir}",
            f"--config.data.data_dir={data_dir}",
            *(f"--config.{name}={value}" for name, value in VALUES.items()),
            "--nodistributed",
        )
    assert ended == (0, "")
    return Trained(workdir, built[0], printed.getvalue())


def test_the_command(trained):
    """The command trains with the given values, prints progress and draws pictures."""
    config = cli.flatten(run_workdir.read_config(trained.workdir))
    assert {name: config[name] for name in VALUES} == VALUES
    lines = trained.printed.splitlines()
    assert lines[0].startswith(f"{trained.workdir}: ")
    assert any(line.startswith("step 3/3 ") for line in lines)
    assert list((trained.workdir / "pictures").glob("*.png"))


def _state(workdir, experiment):
    template = jax.eval_shape(experiment.init, jax.random.key(0))
    state = checkpoints.Checkpoints(workdir).restore(template).state
    return state._replace(key=jax.random.key_data(state.key))


def _killed_after(step, trained, folder):
    """Copies the run without its checkpoints after a step, and returns the copy."""
    killed = shutil.copytree(trained.workdir, folder / "killed")
    for checkpoint in (killed / "checkpoints").iterdir():
        if int(checkpoint.name) > step:
            shutil.rmtree(checkpoint)
    return killed


def test_goes_on_exactly_where_it_was(tmp_path, trained):
    """A run killed after step 2 makes bitwise the steps it would have made."""
    unbroken, experiment, _ = trained
    killed = _killed_after(2, trained, tmp_path)
    config = run_workdir.read_config(killed)
    loop.run(experiment, config, killed, Devices(jax.devices()[:1]))
    jax.tree.map(
        np.testing.assert_array_equal,
        _state(killed, experiment),
        _state(unbroken, experiment),
    )
    rows = tiny_runs.rows(killed, "train")
    assert rows == tiny_runs.rows(unbroken, "train")
    assert len({row["loss"] for row in rows}) == 3


def test_two_processes_make_the_same_steps(trained, data_dir, tmp_path):
    """Two processes of two devices make the last step of a run as one device made it.

    It trains with the ELBO on superposed scenes. Its gradients, which are in the
    moments, are compared. The first process alone writes and reports.
    """
    killed = _killed_after(2, trained, tmp_path)
    printed = finished(
        lambda address, index: (
            *("-m", "experiments.train", f"--config={CONFIG}", f"--workdir={killed}"),
            f"--config.data.data_dir={data_dir}",
            *(f"--config.{name}={value}" for name, value in VALUES.items()),
            f"--coordinator_address={address}",
            "--num_processes=2",
            f"--process_id={index}",
        ),
        tmp_path,
    )
    assert ["step 3/3" in text for text in printed] == [True, False]
    assert "4 x cpu in 2 processes" in printed[0]
    ends = (_state(run, trained.experiment).opt_state for run in (killed, trained[0]))
    for moments, expected in zip(*map(jax.tree.leaves, ends), strict=True):
        atol = 5e-3 * np.abs(expected).max()
        np.testing.assert_allclose(moments, expected, rtol=0, atol=atol)
    for part in ("train", "held_out"):
        found, expected = (tiny_runs.rows(run, part) for run in (killed, trained[0]))
        for row, same in zip(found, expected, strict=True):
            assert row == pytest.approx(same, rel=1e-4)
    for folder in ("checkpoints", "pictures"):
        names, expected = (
            {path.name for path in (run / folder).iterdir()}
            for run in (killed, trained.workdir)
        )
        assert names == expected
    assert len(list((killed / "tensorboard").iterdir())) == 2  # a file for each start


# These tests train and measure the baseline.


@pytest.fixture(scope="module")
def baseline_config(data_dir):
    """Makes a config of four steps, with a checkpoint after every other one."""
    config = cli.load_config(str(ROOT / BASELINE))
    config.data.data_dir = data_dir
    config.update(num_steps=4, batch_size=4, log_every=1, checkpoint_every=2)
    config.update(eval_every=4, picture_every=4)
    return config


@pytest.fixture(scope="module")
def baseline_run(baseline_config, tmp_path_factory):
    """Trains the baseline, and returns its workdir."""
    workdir = tmp_path_factory.mktemp("baseline")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        loop.train_and_evaluate(baseline_config, workdir, jax.devices()[:1])
    return workdir


def test_the_report_of_the_baseline(baseline_run, baseline_config, tmp_path):
    """The report has the library's bounds, and null for what needs objects."""
    model, variables = lavae_jax.load(baseline_run)
    evaluate.evaluate(
        baseline_config, model, variables, settings=_SETTINGS, out=tmp_path
    )
    found = report.read(tmp_path / "report.json")
    (image_set,) = measure.split_sets(baseline_config.data, ["test_7"], 5)
    inferred = measure.infer(model, variables, image_set, _SETTINGS)
    assert inferred.scenes is None
    split = found.splits[1]
    expected = measure.compare(image_set, inferred, None)
    for bound, again in zip(split.bounds, expected.bounds, strict=True):
        assert bound.negative_log_p == pytest.approx(again.negative_log_p, rel=1e-5)
        assert bound.effective_samples == pytest.approx(again.effective_samples)
    assert [bound.num_samples for bound in split.bounds] == [1, 10, 12]
    assert split.counts is None and split.truth is None
    floor = floors.floor("multi_dsprites/tiny", "test_7", baseline_config.data.data_dir)
    assert split.floor.floor == split.floor.entropy == pytest.approx(floor.entropy)
