"""The benchmark finds every phase of a run, times it and counts its operations."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import benchmark, cli
from experiments.configs import baseline_dsprites, dsprites
from experiments.run import build
from tests import commands

pytestmark = pytest.mark.standard_promotion


def test_phases_are_the_distinct_functions_of_a_run():
    """Each function is found once, with its first step and its number of steps."""

    def first():
        """Makes steps 1 and 3."""

    def second():
        """Makes steps 2 and 4 to 6."""

    phases = benchmark.find_phases(lambda n: first if n in (1, 3) else second, 6)
    assert phases == [
        benchmark.Phase(1, 2, first),
        benchmark.Phase(2, 4, second),
    ]


def test_images_have_three_one_two_and_no_squares():
    """The mean number of objects is the data sets' 1.5; all values are 0 or 255."""
    images = benchmark.make_images(40, (30, 20, 3))
    assert set(np.unique(images)) == {0, 255}
    lit = (images > 0).any(axis=-1).sum(axis=(1, 2)).reshape(10, 4)
    assert (lit[:, 1] == 36).all() and (lit[:, 3] == 0).all()
    assert (lit[:, 0] <= 108).all() and (lit[:, 2] <= 72).all()


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
        look=None,
        measure=None,
        warnings=None,
    )
    monkeypatch.setattr(build, "build", lambda config: experiment)
    config = baseline_dsprites.get_config("tiny")
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
        "--config=experiments/configs/baseline_dsprites.py:tiny",
        "--repeats=1",
        f"--json={path}",
    )
    assert status == 0, errors
    written = json.loads(path.read_text())
    assert len(written["phases"]) == 1
    assert f"{written['milliseconds']:.1f} ms" in capsys.readouterr().out


def test_a_run_of_another_model_is_refused(tmp_path):
    """`--workdir` must hold a run of the same model."""
    with pytest.raises(cli.UserError, match="is not the workdir of a run"):
        benchmark.benchmark(dsprites.get_config("tiny"), 1, tmp_path)
