"""A run that is ended again and again comes to the end of one that is not."""

import pathlib
import re
import shutil
import sys

import pytest

from experiments import cli, events, kill_checks, kill_test
from tests import compilation
from tests.commands import ROOT, refused

# The baseline starts in half the time.
CONFIG = "experiments/configs/baseline_dsprites.py:tiny"


def _change_parameters(workdir):
    """Has the state of the step before, and no checksums that tell."""
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


def _tear_a_row(workdir):
    path = workdir / "metrics.jsonl"
    path.write_text(path.read_text()[:-9])


def _lose_all_rows(workdir):
    (workdir / "metrics.jsonl").unlink()


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


DAMAGES = {
    _change_parameters: r"\['params'\].* of the last checkpoint is another",
    _lose_a_row: "metrics.jsonl has .* rows, not .*; other ones are none",
    _repeat_a_row: "metrics.jsonl has .* rows, not",
    _tear_a_row: "metrics.jsonl is not whole: ",
    _lose_all_rows: r"metrics.jsonl is not whole: \[Errno 2\] No such file",
    _cut_off_events: "is cut off or damaged",
    _lose_events: "TensorBoard has another .* of step 8, or 0 of them",
    _change_a_picture: "the picture step_0000000.*png is another",
    _leave_a_file: "9.orbax-checkpoint-tmp is left over",
}


def test_the_end_is_that_of_an_unbroken_run(tmp_path, data_dir, monkeypatch, capsys):
    """After a kill while a checkpoint is written, and a SIGTERM between steps.

    Nor could the verdict be another: each difference that is made is found.
    """
    monkeypatch.chdir(ROOT)
    # One device; a start is to take seconds.
    monkeypatch.setenv("XLA_FLAGS", " ".join(compilation.FAST))
    command = [
        *(sys.executable, "-m", "experiments.train", f"--config={CONFIG}"),
        f"--config.data.data_dir={data_dir}",
        *("--config.num_steps=8", "--config.checkpoint_every=1"),
        *("--config.log_every=3", "--config.eval_every=2"),
    ]
    runs = tmp_path / "runs"
    kill_test.kill_test(command, runs, 8, 1, kills=1, stops=1, seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for what in (
        r"SIGKILL .* while writing the checkpoint of step \d",
        r"SIGTERM .* stored step \d",
    ):
        assert any(re.search(what, line) for line in lines[1:3])
    assert lines[3].startswith("1 kills and 1 stops: parameters, optimiser state, pos")
    for damage, problem in DAMAGES.items():
        other = shutil.copytree(runs / "killed", tmp_path / damage.__name__)
        damage(other)
        found = kill_checks.problems(runs / "unbroken", other)
        assert any(re.search(problem, line) for line in found), (damage, found)


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


def test_several_seeds_are_refused(tmp_path):
    """Before a run is started."""
    said = refused(
        "--config.num_seeds=2",
        tmp_path,
        kill_test,
        f"--config={ROOT}/{CONFIG}",
        "--config.num_seeds=2",
        f"--workdir={tmp_path}/runs",
    )
    assert "leave --config.num_seeds at 1, got 2" in said
    assert not list(tmp_path.iterdir())
