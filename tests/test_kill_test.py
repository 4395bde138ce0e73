"""A run that is ended again and again comes to the end of one that is not."""

import pathlib
import re
import shutil
import sys

import pytest

from experiments import cli, events, kill_checks, kill_test
from tests.commands import ROOT
from tests.test_train import CONFIG, PHASES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both runs are."""
    return tmp_path_factory.mktemp("kill_test") / "runs"


def test_the_end_is_that_of_an_unbroken_run(folder, data_dir, monkeypatch, capsys):
    """After kills while a checkpoint is written and between steps, and a SIGTERM."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    compiled = str(folder.with_name("compiled"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", compiled)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    command = [
        *(sys.executable, "-m", "experiments.train", f"--config={CONFIG}"),
        f"--config.data.data_dir={data_dir}",
        *("--config.num_steps=8", "--config.checkpoint_every=1"),
        *("--config.log_every=3", "--config.eval_every=2"),
        *(f"--config.warmup.{name}={value}" for name, value in PHASES.items()),
    ]
    kill_test.kill_test(command, folder, 8, 1, kills=2, stops=1, seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    cut = r"SIGKILL .* while writing the checkpoint of step \d"
    assert any(re.search(cut, line) for line in lines[1:4])
    stopped = r"SIGTERM .* stored step \d"
    assert any(re.search(stopped, line) for line in lines[1:4])
    assert lines[4].startswith("2 kills and 1 stops: parameters, optimiser state, pos")


def _change_parameters(workdir):
    # The metadata of another step, with the state of this one.
    (workdir / "checkpoints" / "8" / "SHA256SUMS").unlink()
    shutil.rmtree(workdir / "checkpoints" / "8" / "state")
    before = workdir / "checkpoints" / "7" / "state"
    before.rename(workdir / "checkpoints" / "8" / "state")


def _lose_a_row(workdir):
    path = workdir / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def _repeat_a_row(workdir):
    path = workdir / "metrics.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


def _cut_off_events(workdir):
    path = events.files(workdir / "tensorboard")[0]
    path.write_bytes(path.read_bytes()[:-1])


def _lose_events(workdir):
    events.files(workdir / "tensorboard")[-1].unlink()


def _change_a_picture(workdir):
    path = next((workdir / "pictures").glob("*.png"))
    path.write_bytes(path.read_bytes() + b"?")


def _leave_a_file(workdir):
    (workdir / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_change_parameters, r"\['params'\].* of the last checkpoint is another"),
        (_change_parameters, "has no checksums"),
        (_lose_a_row, "metrics.jsonl has .* rows, not .*; other ones are none"),
        (_repeat_a_row, "metrics.jsonl has .* rows, not"),
        (_cut_off_events, "is cut off or damaged"),
        (_lose_events, "TensorBoard has another .* of step 8, or 0 of them"),
        (_change_a_picture, "the picture step_0000000.*png is another"),
        (_leave_a_file, "9.orbax-checkpoint-tmp is left over"),
    ],
)
def test_every_difference_is_found(folder, tmp_path, damage, problem):
    """The verdict depends on each of the files."""
    unbroken, other = folder / "unbroken", tmp_path / "run"
    shutil.copytree(folder / "killed", other)
    assert not kill_checks.problems(unbroken, other)
    damage(other)
    found = kill_checks.problems(unbroken, other)
    assert any(re.search(problem, line) for line in found), found


@pytest.mark.parametrize(
    ("num_steps", "message"),
    [(100, "is not empty: give the test a new"), (11, "at least 2 x 3 x 2")],
)
def test_impossible_tests_are_refused(tmp_path, num_steps, message):
    """Before a run is started."""
    workdir = pathlib.Path(tmp_path, "runs")
    if num_steps == 100:
        workdir.mkdir()
        (workdir / "unbroken").mkdir()
    with pytest.raises(cli.UserError, match=message):
        kill_test.kill_test(["false"], workdir, num_steps, 2, 3, 0, 0)
