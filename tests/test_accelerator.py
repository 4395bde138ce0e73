"""Training by the clock makes dispatches of many steps, and the command works."""

import contextlib
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from datasets import load
from experiments import accelerator, cli
from experiments.configs import dsprites
from experiments.run import build, checkpoints, clocked, loop, workdir
from lavae_jax import pretrained, runs
from tests import tiny_steps
from tests.commands import run_here

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def _run(*arguments):
    """Runs the command on the tiny config; returns its exit status and stderr."""
    config = "experiments/configs/dsprites.py:tiny"
    values = ("batch_size=2", "model.objects_per_image=10")
    overrides = (f"--config.{value}" for value in values)
    return run_here(accelerator, f"--config={config}", *overrides, *arguments)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, data_dir):
    """Makes the file of scenes that the command packs from the tiny data set."""
    # Libraries define flags as they open data, and these must outlast the command.
    load.images("multi_dsprites/tiny", "test_7", data_dir)
    path = tmp_path_factory.mktemp("packed") / "scenes.npz"
    status, errors = _run(f"--pack={path}", f"--config.data.data_dir={data_dir}")
    assert not status, errors
    return path


def test_packed_scenes_are_the_scenes(scenes, data_dir):
    """Packing keeps every bit, also where the number of pixels is no multiple of 8."""
    config = dsprites.get_config("tiny")
    packed = np.load(scenes)
    images = load.images(config.data.name, "test_7", data_dir)
    unpacked = clocked.unpack(jnp.asarray(packed["test_7"]), (64, 64, 3))
    np.testing.assert_array_equal(unpacked, np.stack(list(images)) / 255)
    assert packed["test_7_n"].tolist() == [7] * 256
    assert len(packed["train"]) == 256 - config.data.num_valid
    odd = np.random.default_rng(0).integers(0, 2, (3, 5, 3, 1))
    bits = np.stack([np.packbits(one) for one in odd])
    np.testing.assert_array_equal(clocked.unpack(jnp.asarray(bits), (5, 3, 1)), odd)


def test_a_dispatch_makes_the_steps_one_by_one():
    """A dispatch of three steps equals three of one, and reports their mean metrics."""
    config = ConfigDict({"batch_size": 8, "model": {"image_shape": tiny_steps.SHAPE}})
    train_step = tiny_steps.make_step(tiny_steps.RECIPE, "tighten")
    bits = np.stack([np.packbits(image > 0) for image in tiny_steps.make_images(20)])
    three, one = (
        jax.jit(clocked.make_dispatch(config, train_step, number)) for number in (3, 1)
    )
    start = tiny_steps.start_state()
    found, means = three(start, bits)
    state, losses = start, []
    for _ in range(3):
        state, metrics = one(state, bits)
        losses.append(metrics.loss)
    assert found.step == state.step == 3
    assert means.loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert len(set(map(float, losses))) == 3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        found.params,
        state.params,
    )


@pytest.mark.parametrize("minutes", [1.0, 25.0])
def test_the_schedule_ends_with_the_time(minutes):
    """A schedule ends with the time at any speed; no stage begins within a dispatch."""
    config = dsprites.get_config("laptop")
    warmup, last = build.warmup_steps(config), config.num_steps
    tighten = last - config.tighten.steps
    for seconds_per_dispatch in (0.3, 2.0):
        step, clock, starts = 0, clocked.Clock(), []
        while clock.seconds < 60 * minutes and step < last:
            step = clocked.step_by_the_clock(config, clock, 60 * minutes, step, 50)
            starts.append(step)
            step += 50
            seconds = clock.seconds + seconds_per_dispatch
            warm = clock.warmup_seconds
            if warm is None and step >= warmup:
                warm = seconds
            clock = clocked.Clock(seconds, warm, clock.num_steps + 50)
        assert starts[: warmup // 50 + 1] == list(range(0, warmup + 1, 50))
        assert (np.diff(starts) >= 50).all()
        assert tighten in starts
        dispatches = len(starts) - warmup // 50  # after the warm-up
        assert last - starts[-1] < max(100, 2 * (last - warmup) / dispatches)


def test_the_command_goes_on_and_measures(scenes, tmp_path, monkeypatch):
    """A stopped run goes on with its clock, and its model can be read."""
    monkeypatch.setattr(accelerator, "_NUM_SAMPLES", 2)
    arguments = (
        f"--scenes={scenes}",
        f"--workdir={tmp_path}",
        # The draws and networks of `paper`, without the stages that compile longest.
        "--config.elbo.draws=relaxed",
        "--config.elbo.num_draws=2",
        "--config.elbo.location_every=1",
        "--config.elbo.appearance_updates=0",
        "--config.elbo.superpose=0.0",
        "--config.elbo.wake_weight=0.0",
        "--config.model.appearance_net=trunk",
        "--config.model.sprite_net=conv",
        "--config.model.norm=batch",
        "--config.model.channels=4",
        "--config.model.max_objects=4",
        "--config.warmup.auxiliary_steps=0",
        "--config.warmup.guided_steps=0",
        "--config.tighten.steps=0",
        "--minutes=10",
        "--steps_per_dispatch=1",
        "--num_images=4",
    )
    with monkeypatch.context() as patch:
        # The system stops the run after its first steps.
        patch.setattr(clocked, "_is_due", lambda *_: signal.raise_signal(15))
        assert _run(*arguments)[0] == 130
    (stopped,) = runs.checkpoint_steps(tmp_path)
    status, errors = _run(*arguments)
    assert not status, errors
    report = json.loads((tmp_path / "accelerator.json").read_text())
    assert report["training"]["steps made"] > stopped > 0
    assert 0 <= report["test"]["counts"] <= 1
    assert report["test_7"]["-log p(x)"] > 0
    _, run = pretrained.read_run(tmp_path)
    assert run.step == report["training"]["step of the schedule"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.batch_size=3", "batch_size must be a multiple of 2"),
        ("--config.warmup.guided_steps=3", "warmup.guided_steps must be a multiple"),
        ("--config.model.image_shape=(32, 32, 3)", "not hold scenes of (32, 32, 3)"),
    ],
)
def test_what_can_not_be_trained_is_refused(scenes, tmp_path, argument, message):
    """Settings that don't fit dispatches or scenes are refused with what is wrong."""
    status, errors = _run(
        f"--scenes={scenes}",
        f"--workdir={tmp_path}",
        "--config.warmup.auxiliary_steps=2",
        "--steps_per_dispatch=2",
        "--config.warmup.guided_steps=2",
        argument,
    )
    assert status == 1
    assert message in errors


def test_what_is_no_file_of_scenes(tmp_path):
    """Text, an empty file, a broken archive and a missing file are refused."""
    for content in (b"text", b"", b"PK\x03\x04broken", None):
        path = tmp_path / "scenes.npz"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        status, errors = _run(f"--scenes={path}", f"--workdir={tmp_path}")
        assert status == 1
        assert "--pack" in errors


def test_a_run_of_the_other_command(scenes, tmp_path):
    """Neither command continues a run of the other one, which lacks what it needs."""
    config = dsprites.get_config("tiny")
    config.batch_size = 2
    config.model.objects_per_image = 10.0
    state = build.build(config).init(jax.random.key(0))
    kinds = {"train": {"next_index": 8}, "accelerator": {"clock": {}}}
    for name, position in kinds.items():
        workdir.claim(tmp_path / name, config)
        with contextlib.closing(checkpoints.Checkpoints(tmp_path / name)) as store:
            store.save(1, state, checkpoints.Position(position, []))
    arguments = (f"--scenes={scenes}", f"--workdir={tmp_path / 'train'}")
    status, errors = _run(*arguments, "--steps_per_dispatch=1")
    assert status == 1
    assert "holds a run of experiments.train" in errors
    with pytest.raises(cli.UserError, match=r"a run of experiments\.accelerator"):
        loop.train_and_evaluate(config, tmp_path / "accelerator", jax.devices()[:1])
