"""The benchmark finds every phase of a run, times it and counts its operations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lavae_jax
from experiments import benchmark, benchmark_count
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


def test_counting_is_timed_for_each_batch():
    """Batches have the numbers and sizes that are named, and images of the model."""
    model, variables = lavae_jax.load_pretrained("multi_mnist_1k")
    batches = benchmark_count.sampled_batches(model, variables)
    assert [images.shape[:3] for images in batches] == [
        *((num, 64, 64) for num in (1, 16, 17, 128)),
        (1, 512, 512),
    ]
    scenes = batches[3]
    for row, column in ((0, 0), (0, 7), (5, 3)):
        window = batches[-1][0, 64 * row :][:64, 64 * column :][:, :64]
        np.testing.assert_array_equal(window, scenes[8 * row + column])
    (speed,) = benchmark_count.speeds(model, variables, [scenes[:2]], repeats=2)
    assert (speed.num_images, speed.size) == (2, (64, 64))
    assert speed.first_seconds > 0 < speed.seconds
