"""A run: what it leaves behind, how it goes on, and how it ends early.

None of it depends on the model, so a small one stands in: the mean image, with noise.
"""

import json
import os
import signal
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from datasets import load
from experiments import build, checkpoints, cli, loop, views
from experiments.devices import Devices
from lavae_jax.types import Scene


class _State(NamedTuple):
    step: jax.Array
    params: dict
    batch_stats: dict
    key: jax.Array


class _Metrics(NamedTuple):
    loss: jax.Array
    noise: jax.Array


class _Experiment(NamedTuple):
    init: Callable
    train_step_at: Callable
    shown: tuple
    look: Callable
    measure: Callable


def _experiment(axis_name=None, learning_rate=0.5, on_measure=lambda: None):
    """The mean image by gradient descent; it sees one object unless all is black."""

    def init(key):
        shape = (64, 64, 3)
        params = {"mean": jnp.zeros(shape)}
        return _State(jnp.int32(0), params, {"seen": jnp.zeros(shape)}, key)

    def train_step(state, images):
        key, key_noise = jax.random.split(state.key)
        noise = jax.random.normal(key_noise)
        x = images.astype(jnp.float32) / 255

        def loss_fn(mean):
            return jnp.mean((x - mean[None] - 0.1 * noise) ** 2)

        mean = state.params["mean"]
        loss, gradient = jax.value_and_grad(loss_fn)(mean)
        seen = jnp.mean(x, axis=0)
        if axis_name:
            loss, gradient, seen = jax.lax.pmean((loss, gradient, seen), axis_name)
        params = {"mean": mean - learning_rate * gradient}
        stats = {"seen": state.batch_stats["seen"] + seen}
        state = _State(state.step + 1, params, stats, key)
        return state, _Metrics(loss, noise)

    def look(state, images):
        active = jnp.any(images > 0, axis=(1, 2, 3))[:, None]
        zeros = jnp.zeros((len(images), 1, 2), jnp.int32)
        scene = Scene(jnp.sum(active, axis=1), zeros, zeros.astype(float), active)
        means = jnp.broadcast_to(state.params["mean"], images.shape)
        sprites = jnp.zeros((len(images), 1, 5, 5, images.shape[3]))
        return views.SceneView(scene, means, sprites)

    def measure(state, images, n):
        on_measure()
        return build.HeldOutScenes(look(state, images).scene.n == n)

    return _Experiment(init, lambda step: train_step, ("loss",), look, measure)


@pytest.fixture
def config(data_dir):
    """Six steps with everything due at least twice."""
    data = dict(
        name="multi_dsprites/tiny", data_dir=data_dir, manual_dir=None, num_valid=40
    )
    return ConfigDict(
        dict(
            seed=3,
            num_steps=6,
            batch_size=12,
            data=data,
            log_every=1,
            eval_every=2,
            picture_every=3,
            checkpoint_every=2,
            num_eval_images=31,
        )
    )


def _run(config, workdir, num_devices=1, **changes):
    devices = Devices(jax.devices()[:num_devices])
    experiment = _experiment(devices.axis_name, **changes)
    return loop.run(experiment, config, workdir, devices)


def _last(workdir):
    """The state of the last checkpoint, on the host."""
    template = _experiment().init(jax.random.key(0))
    step, state, data_state = checkpoints.Checkpoints(workdir).restore(template)
    key = jax.random.key_data(state.key)
    return step, data_state, jax.tree.leaves(state._replace(key=key))


def _rows(workdir, part):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    speeds = ("steps_per_second", "images_per_second", "part")
    return [
        {name: value for name, value in row.items() if name not in speeds}
        for row in rows
        if row["part"] == part
    ]


def _assert_same_end(workdir, other):
    """The same step, position in the data, and bitwise the same state."""
    step, data_state, leaves = _last(workdir)
    other_step, other_data_state, other_leaves = _last(other)
    assert (step, data_state) == (other_step, other_data_state)
    for leaf, other_leaf in zip(leaves, other_leaves, strict=True):
        np.testing.assert_array_equal(leaf, other_leaf)


def test_what_a_run_leaves_behind(tmp_path, config, data_dir):
    """Metrics of every step, pictures, checkpoints, the config, and the right count."""
    result = _run(config, tmp_path)
    scenes = load.data_source("multi_dsprites/tiny", "train", data_dir)
    n = np.array([scenes[len(scenes) - 40 + index]["n"] for index in range(31)])
    assert result.step == 6
    assert result.held_out.count_accuracy == pytest.approx(np.mean(n <= 1))
    assert [row["step"] for row in _rows(tmp_path, "train")] == [1, 2, 3, 4, 5, 6]
    assert _rows(tmp_path, "held_out")[-1] == {
        "step": 6,
        "count_accuracy": result.held_out.count_accuracy,
    }
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["step_00000003.png", "step_00000006.png"]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["2", "4", "6"]
    assert checkpoints.read_config(tmp_path) == config
    assert list((tmp_path / "tensorboard").iterdir())


def test_goes_on_exactly_where_it_was(tmp_path, config):
    """Steps 5 and 6 of an extended run are bitwise those of an unbroken one."""
    _run(config, tmp_path / "unbroken")
    config.num_steps = 4
    _run(config, tmp_path / "extended")
    config.num_steps = 6
    _run(config, tmp_path / "extended")
    _assert_same_end(tmp_path / "extended", tmp_path / "unbroken")
    for part in ("train", "held_out"):
        assert _rows(tmp_path / "extended", part) == _rows(tmp_path / "unbroken", part)


def test_several_devices_make_the_same_steps(tmp_path, config):
    """One device and four, up to the order of sums, and a change in between."""
    _run(config, tmp_path / "one")
    config.num_steps = 4
    _run(config, tmp_path / "four", num_devices=4)
    config.num_steps = 6
    _run(config, tmp_path / "four", num_devices=2)
    for one, four in zip(
        _last(tmp_path / "one")[2], _last(tmp_path / "four")[2], strict=True
    ):
        np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-6)


def test_an_interruption_stores_the_step(tmp_path, config):
    """After SIGTERM at step 2 the next is stored; the same call goes on from it."""
    _run(config, tmp_path / "unbroken")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM: stopped after step 3"):
        _run(
            config,
            tmp_path / "stopped",
            on_measure=lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
    assert signal.getsignal(signal.SIGTERM) is before
    assert _last(tmp_path / "stopped")[0] == 3
    _run(config, tmp_path / "stopped")
    _assert_same_end(tmp_path / "stopped", tmp_path / "unbroken")


def test_divergence_keeps_the_last_good_checkpoint(tmp_path, config):
    """An infinite loss ends the run by name and step; good checkpoints stay."""
    config.num_steps = 2
    _run(config, tmp_path)
    good = _last(tmp_path)
    config.num_steps = 6
    with pytest.raises(cli.UserError, match=r"step 4: loss is (inf|nan).*of step 2"):
        _run(config, tmp_path, learning_rate=1e30)
    after = _last(tmp_path)
    assert after[:2] == good[:2]
    np.testing.assert_array_equal(after[2][1], good[2][1])


def test_a_diverged_state_is_never_stored(tmp_path, config):
    """The loss of step 1 is finite, the parameters after it are not."""
    config.checkpoint_every = 1
    with pytest.raises(
        cli.UserError, match=r"step 1: .* not finite.*no checkpoint yet"
    ):
        _run(config, tmp_path, learning_rate=float("inf"))
    assert checkpoints.Checkpoints(tmp_path).latest_step() is None


def test_a_run_that_has_ended_is_left_alone(tmp_path, config, capsys):
    """The same call again says so and how to go on, and changes nothing."""
    _run(config, tmp_path)
    table = (tmp_path / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    assert _run(config, tmp_path) == (6, None)
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
