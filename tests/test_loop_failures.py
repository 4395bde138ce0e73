"""A run that can't go on says why, and loses nothing that it has stored."""

import contextlib
import resource

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.run.checkpoints import Checkpoints
from experiments.run.window import Window
from lavae_jax import runs
from tests.commands import without_access
from tests.mean_images import assert_same_end, last, run, six_steps
from tests.tiny_runs import rows


@pytest.fixture
def config(data_dir):
    """Six steps with everything due at least twice."""
    return six_steps(data_dir)


def test_divergence_keeps_the_last_good_checkpoint(tmp_path, config):
    """An infinite loss ends the run by name and step; good checkpoints stay."""
    config.num_steps = 2
    run(config, tmp_path)
    good = last(tmp_path)
    config.num_steps = 6
    with pytest.raises(cli.UserError, match=r"step 4: loss is (inf|nan).*of step 2"):
        run(config, tmp_path, learning_rate=1e30)
    after = last(tmp_path)
    assert after[:2] == good[:2]
    np.testing.assert_array_equal(after[2][1], good[2][1])


def test_a_state_that_is_not_finite_is_an_error(tmp_path):
    """The error names the part of the state, however good the loss is."""
    window = Window(Checkpoints(tmp_path))
    state = {"step": jnp.int32(2), "params": {"a": jnp.ones(3), "b": jnp.ones(2)}}
    window.check_state(2, state)
    state["params"]["b"] = jnp.array([1, jnp.inf])
    message = "step 2: params/b is not finite: .* no checkpoint yet"
    with pytest.raises(cli.UserError, match=message):
        window.check_state(2, state)


@contextlib.contextmanager
def _limited_files(num_bytes):
    """The system refuses to make a file any longer, as it does on a full disk."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path, config):
    """Checkpoints, then pictures and events, don't fit; with room, the run goes on."""
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
        pytest.raises(cli.UserError, match=r"File too large.*\n.*is of step 2\. Once"),
    ):
        run(config, workdir)
    config.update(checkpoint_every=2, picture_every=6)
    run(config, workdir)
    assert_same_end(workdir, tmp_path / "unbroken")
    for part in ("train", "held_out"):
        assert rows(workdir, part) == rows(tmp_path / "unbroken", part)


def test_a_workdir_that_becomes_unwritable(tmp_path, config):
    """Once the right to write is back, the run goes on from its last checkpoint."""
    workdir = tmp_path / "run"
    config.num_steps = 2
    run(config, workdir)
    config.num_steps = 6
    message = r"refuses .*Permission denied.*\n.*the last good one is of step 2\. Once"
    with contextlib.ExitStack() as stack, pytest.raises(cli.UserError, match=message):
        run(
            config,
            workdir,
            on_measure=lambda: stack.enter_context(without_access(workdir)),
        )
    assert runs.checkpoint_steps(workdir) == [2]
    assert run(config, workdir).step == 6
