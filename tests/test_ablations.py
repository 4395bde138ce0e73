"""Ablations train, measure and compare settings, and lose no result."""

import json
import math

import pytest

from experiments import ablations, cli
from experiments.ablations import Moment, Result
from experiments.configs import dsprites

pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two settings of the tiny config, and the folder that they were trained in."""
    config = dsprites.get_config("tiny")
    config.data.data_dir = str(tmp_path_factory.mktemp("data"))
    workdir = tmp_path_factory.mktemp("runs")
    settings = {"base": {}, "fewer": {"data.num_valid": 128}}
    results = ablations.ablate(config, settings, [0, 1], workdir)
    return config, settings, workdir, results


def test_every_setting_is_trained_with_every_seed(done):
    """Each run has its own config, and its figures are those of a trained model."""
    _, _, workdir, results = done
    found = [(result.name, result.seed) for result in results]
    assert found == [("base", 0), ("base", 1), ("fewer", 0), ("fewer", 1)]
    config = json.loads((workdir / "fewer-seed1" / "config.json").read_text())
    assert (config["data"]["num_valid"], config["seed"]) == (128, 1)
    for result in results:
        assert result.minutes > 0 and result.diverged_at is None
        assert result.negative_log_p <= result.negative_elbo
        assert 0 <= result.counts <= 1


def test_runs_that_have_ended_are_not_repeated(done):
    """The same call again makes no step, and the table has all results."""
    config, settings, workdir, results = done
    before = (workdir / "base-seed0" / "ablation.json").stat().st_mtime_ns
    assert ablations.ablate(config, settings, [0, 1], workdir) == results
    assert (workdir / "base-seed0" / "ablation.json").stat().st_mtime_ns == before
    assert len(json.loads((workdir / "table.json").read_text())) == 4


def test_a_value_that_does_not_exist_is_refused(done, tmp_path):
    """A setting with a misspelt name is refused before anything is trained."""
    config, *_ = done
    with pytest.raises(cli.UserError, match=r"no value model\.widht"):
        ablations.ablate(config, {"typo": {"model.widht": 40}}, [0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_moments_are_the_last_reports_before_each_minute():
    """Nothing is taken from a report that comes later."""
    rows = [
        {"minutes": 0.5, "part": "train", "elbo": -300.0},
        {"minutes": 0.9, "part": "train", "elbo": -200.0},
        {"minutes": 1.5, "part": "train", "elbo": -100.0},
        {"minutes": 1.5, "part": "held_out", "count_accuracy": 0.9},
        {"minutes": 2.2, "part": "train", "elbo": -50.0},
    ]
    first, second = ablations.moments(rows)
    assert (first.minutes, first.negative_elbo) == (1, 200)
    assert math.isnan(first.counts)
    assert second == Moment(2, 0.9, 100)
    assert ablations.moments([]) == ()


def test_the_table_has_means_and_deviations_over_seeds():
    """A run that diverged is named, and does not enter the means."""
    moment = Moment(1.0, 0.5, 200.0)
    run = Result("base", {}, 0, 2.0, None, (moment,), 0.9, 80.0, 70.0)
    other = run._replace(seed=1, counts=0.7, negative_log_p=74.0)
    nan = math.nan
    lost = run._replace(
        seed=2, diverged_at=7, counts=nan, negative_elbo=nan, negative_log_p=nan
    )
    *_, row = ablations.markdown([run, other, lost]).splitlines()
    assert "0, 1, 2 (diverged at 7)" in row
    assert "80.00% ± 14.14%" in row and "72.0 ± 2.8" in row
    assert "50.0% ± 0.0%, 200 ± 0" in row
