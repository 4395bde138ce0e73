"""Curves of held-out scenes have the minutes of training, and are drawn."""

import json
import math

import pytest

from experiments import curves
from tests.commands import run_here

_ROWS = [
    {"step": 1, "part": "train", "steps_per_second": 0.0},
    {"step": 60, "part": "held_out", "count_accuracy": 0.5, "elbo": -200.0},
    {"step": 120, "part": "train", "steps_per_second": 2.0},
    {"step": 180, "part": "held_out", "count_accuracy": 0.9, "elbo": -90.0},
    {"step": 240, "part": "train", "steps_per_second": 1.0},
]


def _write_run(folder, **warmup):
    folder.mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in _ROWS)
    (folder / "metrics.jsonl").write_text(lines)
    (folder / "config.json").write_text(json.dumps({"warmup": warmup}))


def test_curves_have_the_minutes_of_training(tmp_path):
    """Minutes follow from the speeds: 2 steps a second, then 1, none for the first.

    The warm-up of 210 steps ends after 120 steps of one speed and 90 of the other.
    """
    _write_run(tmp_path / "run", auxiliary_steps=150, guided_steps=60)
    expected = curves.HeldOutCurve(
        (60, 180), (0.5, 2.0), (0.5, 0.9), (200.0, 90.0), 2.5
    )
    assert curves.read(tmp_path / "run") == expected


def test_the_command_draws_runs_and_files_of_its_own(tmp_path):
    """Figures that the command wrote take the place of their run."""
    _write_run(tmp_path / "one", auxiliary_steps=900, guided_steps=0)
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_here(curves, f"--workdir={tmp_path / 'one'}", f"--out={first}") == (
        0,
        "",
    )
    again = curves.read(first / "one.json")
    assert again[:4] == curves.read(tmp_path / "one")[:4]
    assert math.isnan(again.warmup_minutes)  # the warm-up has not ended
    _write_run(tmp_path / "two", auxiliary_steps=60, guided_steps=0)
    both = f"--workdir={first / 'one.json'},{tmp_path / 'two'}"
    assert run_here(curves, both, f"--out={second}") == (0, "")
    assert {path.name for path in second.iterdir()} == {
        "curves.png",
        "one.json",
        "two.json",
    }


@pytest.mark.parametrize("name", ["missing", "broken.json"])
def test_what_is_no_run_is_refused(tmp_path, name):
    """The error names a run without figures, and a file that is not of this command."""
    (tmp_path / "broken.json").write_text('{"steps": 3}')
    status, errors = run_here(curves, f"--workdir={tmp_path / name}")
    assert status == 1
    assert name in errors
