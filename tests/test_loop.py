"""A run stores its results, goes on after interruptions, and reports its errors."""

import contextlib
import os
import re
import resource
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets import load
from experiments import cli
from experiments.run import loop
from experiments.run import workdir as run_workdir
from experiments.run.checkpoints import Checkpoints
from experiments.run.progress import Window
from lavae_jax import runs
from lavae_jax.training.metrics import TrainMetrics
from tests.joined_processes import started
from tests.mean_images import assert_close_end, assert_same_end, last, run, six_steps
from tests.tiny_runs import rows


@pytest.fixture
def config(data_dir):
    """Makes a config of six steps in which everything is due at least twice."""
    return six_steps(data_dir)


def test_what_a_run_leaves_behind(tmp_path, config, data_dir):
    """A run leaves right metrics of each step, pictures, checkpoints and its config."""
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
    """After SIGTERM in step 4 the step is stored, and the same call goes on from it.

    Means over steps on both sides of the interruption are those of an unbroken run.
    """
    config.log_every = 3
    config.eval_every = 4
    run(config, tmp_path / "unbroken")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=r"SIGTERM.* step 4"):
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
    """Both processes stop after the same stored step, from which the run goes on."""

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
    """Calling an ended run again says how to go on, and changes nothing."""
    run(config, tmp_path)
    table = (tmp_path / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    assert run(config, tmp_path) == (6, None)
    assert "has made its 6 steps; --config.num_steps=N" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_bytes() == table


def test_impossible_counts_are_refused(tmp_path, config):
    """An uneven batch is refused before the workdir is made."""
    config.batch_size = 10
    message = "multiple of 4,.* devices = 4.* 10"
    with pytest.raises(cli.UserError, match=message):
        loop.train_and_evaluate(config, tmp_path / "run", jax.devices()[:4])
    assert not (tmp_path / "run").exists()


# A run that can't go on says why, and loses nothing that it has stored.


def test_divergence_keeps_the_last_good_checkpoint(tmp_path, config):
    """An infinite loss ends the run with its name and step; good checkpoints stay."""
    config.num_steps = 2
    run(config, tmp_path)
    good = last(tmp_path)
    config.num_steps = 6
    with pytest.raises(cli.UserError, match=r"step 4: loss .*step 2"):
        run(config, tmp_path, learning_rate=1e30)
    after = last(tmp_path)
    assert after[:2] == good[:2]
    np.testing.assert_array_equal(after[2][1], good[2][1])


def test_a_state_that_is_not_finite_is_an_error(tmp_path):
    """The error names the part of the state that is not finite."""
    window = Window(Checkpoints(tmp_path))
    state = {"step": jnp.int32(2), "params": {"a": jnp.ones(3), "b": jnp.ones(2)}}
    window.check_state(2, state)
    state["params"]["b"] = jnp.array([1, jnp.inf])
    message = "step 2: params/b .* no checkpoint"
    with pytest.raises(cli.UserError, match=message):
        window.check_state(2, state)


def test_the_host_runs_a_few_steps_ahead_of_the_device(tmp_path, monkeypatch):
    """A step waits for the step four before it, so an interruption ends a run soon."""
    window, waited = Window(Checkpoints(tmp_path)), []
    monkeypatch.setattr(jax, "block_until_ready", lambda row: waited.append(row[0]))
    for step in range(1, 9):
        window.add(step, TrainMetrics(loss=jnp.float32(step)))
    assert waited == [1, 2, 3, 4]
    assert window.mean().loss == 4.5


@contextlib.contextmanager
def _limited_files(num_bytes):
    """Limits the length of files, so that writing fails as it does on a full disk."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path, config):
    """A run ends with an error when its files don't fit; with room it goes on."""
    config.picture_every = 6
    run(config, tmp_path / "unbroken")
    workdir = tmp_path / "full"
    config.num_steps = 2
    run(config, workdir)
    config.num_steps = 6
    with (
        _limited_files(500_000),
        pytest.raises(cli.UserError) as error,
    ):
        run(config, workdir)
    assert "the checkpoint of step 4 can't be written: [Errno 27]" in str(error.value)
    config.update(checkpoint_every=6, picture_every=3)
    with (
        _limited_files(20_000),
        pytest.raises(cli.UserError, match=r"File too large.*\n.* step 2"),
    ):
        run(config, workdir)
    config.update(checkpoint_every=2, picture_every=6)
    run(config, workdir)
    assert_same_end(workdir, tmp_path / "unbroken")
    for part in ("train", "held_out"):
        assert rows(workdir, part) == rows(tmp_path / "unbroken", part)
