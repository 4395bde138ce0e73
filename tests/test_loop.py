"""A run: what it leaves behind, how it goes on, and how it ends early."""

import os
import signal

import jax
import numpy as np
import pytest

from datasets import load
from experiments import cli
from experiments.run import config as run_config
from experiments.run import loop
from tests.mean_images import assert_same_end, last, rows, run, six_steps


@pytest.fixture
def config(data_dir):
    """Six steps with everything due at least twice."""
    return six_steps(data_dir)


def test_what_a_run_leaves_behind(tmp_path, config, data_dir):
    """Metrics of every step, pictures, checkpoints, the config, and the right count."""
    result = run(config, tmp_path)
    scenes = load.data_source("multi_dsprites/tiny", "train", data_dir)
    n = np.array([scenes[len(scenes) - 40 + index]["n"] for index in range(31)])
    assert result.step == 6
    assert result.held_out.count_accuracy == pytest.approx(np.mean(n <= 1))
    assert [row["step"] for row in rows(tmp_path, "train")] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    assert rows(tmp_path, "held_out")[-1] == {
        "step": 6,
        "count_accuracy": result.held_out.count_accuracy,
    }
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["step_00000003.png", "step_00000006.png"]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["2", "4", "6"]
    assert run_config.read_config(tmp_path) == config
    assert list((tmp_path / "tensorboard").iterdir())


def test_goes_on_exactly_where_it_was(tmp_path, config):
    """Steps 5 and 6 of an extended run are bitwise those of an unbroken one."""
    run(config, tmp_path / "unbroken")
    config.num_steps = 4
    run(config, tmp_path / "extended")
    config.num_steps = 6
    run(config, tmp_path / "extended")
    assert_same_end(tmp_path / "extended", tmp_path / "unbroken")
    for part in ("train", "held_out"):
        assert rows(tmp_path / "extended", part) == rows(tmp_path / "unbroken", part)


def test_several_devices_make_the_same_steps(tmp_path, config):
    """One device and four, up to the order of sums, and a change in between."""
    run(config, tmp_path / "one")
    config.num_steps = 4
    run(config, tmp_path / "four", num_devices=4)
    config.num_steps = 6
    run(config, tmp_path / "four", num_devices=2)
    for one, four in zip(
        last(tmp_path / "one")[2],
        last(tmp_path / "four")[2],
        strict=True,
    ):
        np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-6)


def test_an_interruption_stores_the_step(tmp_path, config):
    """After SIGTERM in step 4 it is stored; the same call goes on from it.

    Means over steps on both sides of the interruption are those of an unbroken run.
    """
    config.log_every = 3
    config.eval_every = 4
    run(config, tmp_path / "unbroken")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM: stopped after step 4"):
        run(
            config,
            tmp_path / "stopped",
            on_measure=lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
    assert signal.getsignal(signal.SIGTERM) is before
    assert last(tmp_path / "stopped")[0] == 4
    run(config, tmp_path / "stopped")
    assert_same_end(tmp_path / "stopped", tmp_path / "unbroken")
    for part in ("train", "held_out"):
        assert rows(tmp_path / "stopped", part) == rows(tmp_path / "unbroken", part)


def test_warnings_are_told(tmp_path, config, capsys):
    """After the figures of held-out scenes that they are about."""
    held_out = run(config, tmp_path).held_out
    lines = capsys.readouterr().out.splitlines()
    told = [k for k, line in enumerate(lines) if line.startswith("warning: ")]
    assert [lines[k] for k in told] == [
        f"warning: {held_out.count_accuracy:.0%} of step {step}" for step in (4, 6)
    ]
    assert all("held-out scenes" in lines[k - 1] for k in told)


def test_a_run_that_has_ended_is_left_alone(tmp_path, config, capsys):
    """The same call again says so and how to go on, and changes nothing."""
    run(config, tmp_path)
    table = (tmp_path / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    assert run(config, tmp_path) == (6, None)
    assert "has made its 6 steps; --config.num_steps=N" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_bytes() == table


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 10}, "batch_size must be a multiple of the 4 devices: got 10"),
        ({"log_every": 0}, "log_every must be at least 1: got 0"),
        ({"num_steps": -5}, "num_steps must be at least 1: got -5"),
    ],
)
def test_impossible_counts_are_refused(tmp_path, config, changes, message):
    """Before the model is built, data are read or the workdir is made."""
    config.update(changes)
    with pytest.raises(cli.UserError, match=message):
        loop.train_and_evaluate(config, tmp_path / "run", jax.devices()[:4])
    assert not (tmp_path / "run").exists()
