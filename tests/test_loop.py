"""A run: what it leaves behind, how it goes on, and how it ends early."""

import os
import re
import signal

import jax
import numpy as np
import pytest

from datasets import load
from experiments import cli
from experiments.run import loop
from experiments.run import workdir as run_workdir
from lavae_jax import runs
from tests.joined_processes import started
from tests.mean_images import assert_close_end, assert_same_end, last, run, six_steps
from tests.tiny_runs import rows


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
    steps = [row["step"] for row in rows(tmp_path, "train")]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert rows(tmp_path, "held_out")[-1] == {
        "step": 6,
        "count_accuracy": result.held_out.count_accuracy,
    }
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["step_00000003.png", "step_00000006.png"]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["2", "4", "6"]
    assert run_workdir.read_config(tmp_path) == config
    assert list((tmp_path / "tensorboard").iterdir())


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


def test_a_signal_to_one_process_stops_all(tmp_path, config, data_dir):
    """Both stop after the same step, which is stored; the run goes on from it."""

    def arguments(address, index):
        return ("-m", "tests.mean_images", address, index, data_dir, tmp_path / "run")

    with started(arguments, tmp_path) as both:
        codes = [process.wait(timeout=600) for process in both]
    errors = [(tmp_path / f"{index}.err").read_text() for index in range(2)]
    assert codes == [130, 130], errors
    stopped = [re.search(r"stopped after step (\d+)", error)[1] for error in errors]
    assert stopped[0] == stopped[1]
    step = int(stopped[0])
    never = 10**6
    config.update(eval_every=never, picture_every=never, checkpoint_every=never)
    config.num_steps = step
    assert runs.checkpoint_steps(tmp_path / "run") == [step]
    run(config, tmp_path / "alone", num_devices=4)
    assert_close_end(tmp_path / "run", tmp_path / "alone")
    config.num_steps = step + 1
    assert run(config, tmp_path / "run", num_devices=4).step == step + 1


def test_a_run_that_has_ended_is_left_alone(tmp_path, config, capsys):
    """The same call again says so and how to go on, and changes nothing."""
    run(config, tmp_path)
    table = (tmp_path / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    assert run(config, tmp_path) == (6, None)
    assert "has made its 6 steps; --config.num_steps=N" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_bytes() == table


def test_impossible_counts_are_refused(tmp_path, config):
    """An uneven batch is refused before the workdir is made."""
    config.batch_size = 10
    message = "batch_size must be a multiple of the 4 devices: got 10"
    with pytest.raises(cli.UserError, match=message):
        loop.train_and_evaluate(config, tmp_path / "run", jax.devices()[:4])
    assert not (tmp_path / "run").exists()
