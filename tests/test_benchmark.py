"""The benchmark finds every phase of a run, times it and counts its operations."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from experiments import benchmark
from experiments.configs import baseline
from experiments.run import build
from tests import commands

pytestmark = pytest.mark.standard_promotion


def test_every_phase_is_timed_and_counted(monkeypatch):
    """The means over the run weight each phase by its number of steps."""
    side, num_steps = 64, 6

    class State(NamedTuple):
        """A training state."""

        step: jax.Array
        params: jax.Array

    def product(state, images):
        del images
        return state._replace(params=state.params @ state.params), state.step

    def sum_(state, images):
        return state._replace(params=state.params + images.sum()), state.step

    experiment = build.Experiment(
        model=None,
        init=lambda key: State(jnp.int32(0), jax.random.normal(key, (side, side))),
        train_step_at=lambda number: product if number < 3 else sum_,
        shown=(),
        draw=None,
        measure=None,
        warnings=None,
    )
    monkeypatch.setattr(build, "build", lambda config: experiment)
    config = baseline.get_config("dsprites:tiny")
    config.num_steps = num_steps
    result = benchmark.benchmark(config, repeats=3)
    first, second = result.phases
    assert (first.first_step, first.num_steps) == (1, 2)
    assert (second.first_step, second.num_steps) == (3, 4)
    assert first.gflop == pytest.approx(2 * side**3 / 1e9, rel=0.01)
    assert 0 < second.gflop < first.gflop
    mean = (2 * first.milliseconds + 4 * second.milliseconds) / num_steps
    assert result.milliseconds == pytest.approx(mean)
    assert result.images_per_second == pytest.approx(1e3 * config.batch_size / mean)


def test_the_command_writes_its_figures(tmp_path, capsys):
    """`--json` keeps what the table shows."""
    path = tmp_path / "figures" / "benchmark.json"
    status, errors = commands.run_here(
        benchmark,
        "--config=experiments/configs/baseline.py:dsprites:tiny",
        "--repeats=1",
        f"--json={path}",
    )
    assert status == 0, errors
    written = json.loads(path.read_text())
    assert len(written["phases"]) == 1
    assert f"{written['milliseconds']:.1f} ms" in capsys.readouterr().out
