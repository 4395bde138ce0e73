"""A run that can't go on says why, and loses nothing that it has stored."""

import contextlib
import os
import resource
import shutil

import numpy as np
import pytest

from experiments import cli
from experiments.run.workdir import lock
from lavae_jax import released, runs
from tests.commands import without_access
from tests.mean_images import assert_same_end, last, rows, run, six_steps


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


def test_a_diverged_state_is_never_stored(tmp_path, config):
    """The loss of step 1 is finite, the parameters after it are not."""
    config.checkpoint_every = 1
    message = r"step 1: params/mean is not finite: .*no checkpoint yet"
    with pytest.raises(cli.UserError, match=message):
        run(config, tmp_path, learning_rate=float("inf"))
    assert not runs.checkpoint_steps(tmp_path)


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
    assert str(error.value) == (
        "the checkpoint of step 4 can't be written: [Errno 27] File too large.\n"
        "Checkpoints are kept, the last good one is of step 2. Once"
        f" {workdir}/checkpoints can be written to, the same command goes on from"
        " there."
    )
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


def test_a_bad_gradient_ends_the_run(tmp_path, config):
    """The step after it has no finite loss, and the run ends there."""
    with pytest.raises(cli.UserError, match=r"step 4: loss is nan: .* is of step 2"):
        run(config, tmp_path, spoilt_step=3)
    assert last(tmp_path)[0] == 2


def test_a_position_of_another_kind(tmp_path, config, capsys):
    """Beside arrays that are right it is damage too: the checkpoint before is used."""
    run(config, tmp_path)
    folder = tmp_path / "checkpoints" / "6"
    (folder / "data" / "metadata").write_text('{"index": 6}')
    (folder / released.CHECKSUMS).unlink()
    assert run(config, tmp_path).step == 6
    said = capsys.readouterr().err
    assert "/6 can't be used: it does not hold the position in the data. The" in said
    assert last(tmp_path)[:2] == (6, ({"next_index": 6}, []))


def test_lost_checkpoints_are_missed(tmp_path, config):
    """A run that was trained for long does not begin anew without a word."""
    run(config, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    for _ in ("checkpoints", "the config too"):
        with pytest.raises(cli.UserError, match="step 6, but its checkpoints are gone"):
            run(config, tmp_path)
        (tmp_path / "config.json").unlink(missing_ok=True)
    assert len(rows(tmp_path, "train")) == 6
    (tmp_path / "metrics.jsonl").unlink()
    assert run(config, tmp_path).step == 6


def test_one_run_at_a_time(tmp_path, config):
    """A second run in a workdir is refused before it changes anything."""
    with (
        lock(tmp_path),
        pytest.raises(cli.UserError, match=rf"another run, process {os.getpid()} on "),
    ):
        run(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
