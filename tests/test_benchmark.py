"""The benchmark finds every phase of a run, times it and counts its operations."""

import json

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


@pytest.mark.parametrize("module", [dsprites, baseline_dsprites])
def test_every_phase_is_timed_and_counted(module, tmp_path):
    """The means over the run weight each phase by its number of steps."""
    config = module.get_config("tiny")
    phases = benchmark.find_phases(build.build(config).train_step_at, config.num_steps)
    result = benchmark.benchmark(config, repeats=2)
    found = [(cost.first_step, cost.num_steps) for cost in result.phases]
    assert found == [(phase.first_step, phase.num_steps) for phase in phases]
    assert sum(cost.num_steps for cost in result.phases) == config.num_steps
    assert all(cost.milliseconds > 0 and cost.gflop > 1e-3 for cost in result.phases)
    mean = np.average(
        [cost.milliseconds for cost in result.phases],
        weights=[cost.num_steps for cost in result.phases],
    )
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
