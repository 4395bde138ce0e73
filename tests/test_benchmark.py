"""The benchmark finds every phase of a run, times it and counts its operations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from experiments import benchmark
from experiments.configs import baseline
from experiments.run import build

pytestmark = pytest.mark.standard_promotion


def test_every_phase_is_timed_and_counted(monkeypatch):
    """Each phase has a time, and the operations of its own step."""
    side, num_steps = 64, 6

    class State(NamedTuple):
        """Stands for a training state."""

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
    first, second = benchmark.benchmark(config, repeats=3)
    assert first.phase == (1, 2, product) and second.phase == (3, 4, sum_)
    assert first.milliseconds > 0 and second.milliseconds > 0
    assert 1e3 * first.compile_seconds > first.milliseconds
    assert first.gflop == pytest.approx(2 * side**3 / 1e9, rel=0.01)
    assert 0 < second.gflop < first.gflop
