"""Ablations train, measure and compare settings, and lose no result."""

import json
import math

import pytest

from experiments import ablations, cli
from experiments.ablations import Result
from experiments.configs import base, bench, dsprites
from experiments.curves import HeldOutCurve
from experiments.measure import report
from experiments.run import input_pipeline, limits

pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Trains a setting; returns the tiny config, settings, workdir and results."""
    config = dsprites.get_config("tiny")
    config.update(num_steps=4, log_every=2)
    config.warmup.update(auxiliary_steps=4, guided_steps=0)
    config.tighten.steps = 0
    config.data.data_dir = str(tmp_path_factory.mktemp("data"))
    workdir = tmp_path_factory.mktemp("runs")
    settings = {"fewer": {"data.num_valid": 128}}
    results = ablations.ablate(config, settings, [1], workdir)
    return config, settings, workdir, results


def test_a_setting_is_trained(done):
    """A run has its own config, and its last look agrees with its final figures."""
    _, _, workdir, (result,) = done
    assert (result.name, result.seed) == ("fewer", 1)
    config = json.loads((workdir / "fewer-seed1" / "config.json").read_text())
    assert (config["data"]["num_valid"], config["seed"]) == (128, 1)
    assert result.minutes > 0 and result.diverged_at is None
    assert result.held_out.steps == (4,)
    assert result.held_out.minutes == (result.minutes,)
    assert result.held_out.counts == pytest.approx((result.counts,))
    (negative_elbo,) = result.held_out.negative_elbo
    assert negative_elbo == pytest.approx(result.negative_elbo, rel=0.05)
    assert result.negative_log_p <= result.negative_elbo
    assert 0 <= result.counts <= 1 and 0 <= result.crowded_counts <= 1


def test_runs_that_have_ended_are_not_repeated(done):
    """The same call again makes no step, and the table has all results."""
    config, settings, workdir, results = done
    before = (workdir / "fewer-seed1" / "ablation.json").stat().st_mtime_ns
    again = ablations.ablate(config, settings, [1], workdir)
    assert repr(again) == repr(results)  # a NaN in them is no other NaN's equal
    assert (workdir / "fewer-seed1" / "ablation.json").stat().st_mtime_ns == before
    assert len(json.loads((workdir / "table.json").read_text())) == 1


def test_results_are_in_the_order_of_their_settings(done, tmp_path):
    """Settings come first, in their order and seed after seed; others come last."""
    config, _, _, (result,) = done
    found = [("last", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    for name, seed in found:
        one = result._replace(name=name, seed=seed)
        report.write(one, tmp_path / f"{name}-seed{seed}" / "ablation.json")
    results = ablations.ablate(config, {"b": {}, "a": {}}, [1, 2], tmp_path)
    expected = [("b", 1), ("b", 2), ("a", 1), ("a", 2), ("last", 0)]
    assert [(one.name, one.seed) for one in results] == expected


def test_a_value_that_does_not_exist_is_refused(done, tmp_path):
    """A setting with a misspelt name is refused before anything is trained."""
    config, *_ = done
    with pytest.raises(cli.UserError, match=r"no value model\.widht"):
        ablations.ablate(config, {"typo": {"model.widht": 40}}, [0], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", bench.SETTINGS)
def test_every_setting_fits_the_bench(name):
    """A setting's values exist in the config, are allowed, and change something."""
    config, changes = bench.get_config(), bench.SETTINGS[name]
    changed = ablations.changed(config, changes, seed=3)
    assert changed.seed == 3
    for field, value in changes.items():
        assert cli.flatten(config)[field] != value
        assert cli.flatten(changed)[field] == value


@pytest.mark.parametrize("variant", base.VARIANTS)
def test_variants_of_the_bench_fit_its_scenes(variant):
    """Each variant's model has the size of its scenes, and enough are held out."""
    config = bench.get_config(variant)
    limits.check(config)
    input_pipeline.prepare(config)
    assert config.data.num_valid >= config.num_eval_images


def test_the_table_has_means_and_deviations_over_seeds():
    """A run that diverged is named, and does not enter the means.

    Of the two others, one measures nothing by minute 1, and one has ended by minute 2.
    """
    nan = math.nan
    curve = HeldOutCurve((500, 1_000), (0.8, 1.6), (0.5, 0.9), (200.0, 80.0))
    run = Result("base", {}, 0, None, curve, 1.6, 0.9, 0.6, 80.0, 70.0)
    curve = HeldOutCurve((500, 1_000), (1.2, 2.4), (0.7, 0.7), (220.0, 100.0))
    other = Result("base", {}, 1, None, curve, 2.4, 0.7, 0.6, 100.0, 74.0)
    none = HeldOutCurve((), (), (), ())
    lost = Result("base", {}, 2, 7, none, nan, nan, nan, nan, nan)
    lines = ablations.markdown([run, other, lost]).splitlines()
    (ends,) = (line for line in lines if line.startswith("| `base` |"))
    assert "0, 1, 2 (diverged at 7)" in ends
    assert "2.0 ± 0.6 | 80.00% ± 14.14%" in ends and "72.0 ± 2.8" in ends
    assert lines[-1] == "| `base`, seed 2 (diverged at 7) | – | – | – | – | – |"
    for line in (
        "|  | setting | 1 | 2 |",
        "| counts | `base` | 60.00% | 80.00% ± 14.14% |",
        "| −ELBO | `base` | 170.0 | 110.0 ± 42.4 |",
    ):
        assert line in lines
