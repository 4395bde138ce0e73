"""Table 1: means over seeds, gaps, failures, from released models and from runs."""

import copy
import json
import math
import shutil

import numpy as np
import pytest

from experiments import cli
from experiments.configs import baseline_dsprites, mnist_1k
from experiments.measure import report
from experiments.paper import models as paper_models
from experiments.paper import table as paper_table
from experiments.paper.models import BASELINE, LAVAE, Models
from experiments.run import build
from lavae_jax import pretrained
from tests import paper_reports, tiny_models, tiny_runs

pytestmark = pytest.mark.standard_promotion


def _models(family, *reports, dataset="multi_dsprites", **fields):
    return Models(dataset, family, tuple(map(report.from_plain, reports)), **fields)


def _cells(rows):
    """Splits the table's lines into cells, by data and model."""
    lines = [line for line in paper_table.markdown(rows).splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {(line[0], line[1]): line[2:] for line in cells}


def test_means_and_deviations_over_seeds():
    """Each figure has its mean over seeds, and its deviation with n - 1."""
    costs, shares = [35.0, 36.5, 41.0], [0.9996, 1.0, 0.9991]
    values = zip(range(3), costs, shares, strict=True)
    (row,) = paper_table.table(
        [_models(LAVAE, *(paper_reports.like_shipped(*one) for one in values))]
    )
    split = row.splits[0]
    assert row.seeds == (0, 1, 2) and split.num_images == 10_000
    mean = sum(costs) / 3
    deviation = math.sqrt(sum((cost - mean) ** 2 for cost in costs) / 2)
    assert split.negative_log_p == pytest.approx((mean, deviation))
    assert split.count_accuracy.mean == pytest.approx(np.mean(shares))
    assert row.paper == (43.9, 1.0, 0.999) and row.failures == ()
    cells = _cells([row])["multi-dSprites", "LAVAE"]
    assert cells[:7] == [
        *("3", "10,000", f"{mean:.1f} ± {deviation:.1f}", "43.9 ± 1.0", "25.0"),
        *("99.96% ± 0.05%", "≥ 99.9%"),
    ]
    # All seeds have the same figures on test_7.
    seven = paper_reports.like_shipped(0, 35.0, 1.0)["splits"][1]
    cost = seven["bounds"][-1]["negative_log_p"]["mean"]
    share = seven["truth"]["count_accuracy"]
    assert cells[7:] == [f"{cost:.1f} ± 0.0", "104.5", f"{share:.2%} ± 0.00%"]


def test_one_seed_has_no_deviation():
    """One seed gives a number alone, and null in JSON."""
    rows = paper_table.table(
        [_models(LAVAE, paper_reports.like_shipped(0, 35.04, 0.9996))]
    )
    assert _cells(rows)["multi-dSprites", "LAVAE"][2] == "35.0"
    (plain,) = report.plain(rows)
    assert plain["splits"][0]["negative_log_p"] == {"mean": 35.04, "deviation": None}


def test_numbers_of_images_are_told():
    """The table says how many images of each split were measured."""
    values = [paper_reports.like_shipped(seed, 48.0, None) for seed in (0, 1)]
    for value in values:
        for split, num in zip(value["splits"], (1000, 500), strict=True):
            split["num_images"] = num
    rows = paper_table.table(
        [
            _models(LAVAE, paper_reports.like_shipped(0, 35.0, 1.0)),
            _models(BASELINE, *values),
        ]
    )
    cells = _cells(rows)
    assert cells["multi-dSprites", LAVAE][1] == "10,000"
    assert cells["multi-dSprites", BASELINE][1] == "1,000, 500"


def test_the_bound_is_that_of_a_hundred_samples():
    """The bound has 100 samples, even if the report has one with more."""
    value = paper_reports.like_shipped(0, 35.0, 1.0)
    more = copy.deepcopy(value["splits"][0]["bounds"][-1])
    more.update(num_samples=1000, negative_log_p={**more["negative_log_p"], "mean": 1})
    value["splits"][0]["bounds"].append(more)
    (row,) = paper_table.table([_models(LAVAE, value)])
    assert row.splits[0].negative_log_p.mean == 35.0


def test_what_is_not_trained_is_a_gap():
    """The paper's rows are there in its order, with its figures; others follow."""
    models = [
        _models(LAVAE, paper_reports.like_shipped(0, 35.0, 1.0)),
        _models(
            BASELINE,
            paper_reports.like_shipped(0, 50.0, None, dataset="own"),
            dataset="own",
        ),
    ]
    rows = paper_table.table(paper_models.complete(models))
    cells = _cells(rows)
    titles = [*paper_models.TITLES.values(), "own"]
    assert list(cells)[2:] == [
        (title, family)
        for title in titles
        for family in (
            LAVAE,
            BASELINE,
        )
    ]
    assert cells["multi-MNIST-10k", LAVAE] == [
        *("0", "–", "not trained", "60.4 ± 2.8", "–", "–", "≥ 99.7%", "–", "–", "–")
    ]
    assert cells["multi-MNIST-1k", BASELINE][2:4] == ["not trained", "51.6 ± 0.6"]
    assert cells["own", BASELINE][:7] == ["1", "10,000", "50.0", "–", "25.0", "–", "–"]
    assert cells["own", LAVAE][2:4] == ["not trained", "–"]
    assert "No failures." in paper_table.markdown(rows)


def test_seeds_behind_the_paper_are_listed():
    """Each seed behind the paper is listed, and counts in the mean all the same."""
    lavae = _models(
        LAVAE,
        *(
            paper_reports.like_shipped(0, 43.9, 0.999),
            paper_reports.like_shipped(1, 44.2, 0.999),
            paper_reports.like_shipped(2, 40, 0.9985),
        ),
        unmeasured=("seed 3: runs/3 has\n  not ended.",),
    )
    baseline = _models(
        BASELINE,
        paper_reports.like_shipped(5, 45.9, None),
        paper_reports.like_shipped(6, 45.0, None),
    )
    rows = paper_table.table([lavae, baseline])
    assert rows[0].splits[0].negative_log_p.mean == pytest.approx(128.1 / 3)
    assert [
        line
        for line in paper_table.markdown(rows).splitlines()
        if "seed " in line and line.startswith("- ")
    ] == [
        "- multi-dSprites, LAVAE: seed 3: runs/3 has not ended.",
        "- multi-dSprites, LAVAE: seed 1: −log p(x) ≤ 44.2, above the paper's 43.9",
        "- multi-dSprites, LAVAE: seed 2: counts 99.85% of images right, below the"
        " paper's 99.9%",
        "- multi-dSprites, baseline: seed 5: −log p(x) ≤ 45.9, above the paper's 45.8",
    ]


def test_released_models_with_all_their_seeds(tmp_path):
    """A released model has the reports of all seeds and the weights of the first."""
    config = json.loads(baseline_dsprites.get_config("tiny").to_json())
    reports = [
        paper_reports.like_shipped(
            seed, cost, None, dataset="multi_dsprites/tiny", model=config["model"]
        )
        for seed, cost in ((3, 50.0), (1, 52.0))
    ]
    paper_reports.release(tmp_path / "baseline_dsprites_tiny", reports)
    (found,) = paper_models.from_released(tmp_path)
    assert (found.dataset, found.family) == ("multi_dsprites/tiny", BASELINE)
    assert [one.config["seed"] for one in found.reports] == [3, 1]
    assert found.config["seed"] == 3
    (row,) = paper_table.table([found])
    assert row.splits[0].negative_log_p.mean == 51.0 and row.paper is None
    model, variables = paper_models.load(found)
    expected = pretrained.load_released(found.source)
    assert model == expected[0]
    np.testing.assert_array_equal(
        *(
            pretrained.flatten(one)["params/encoder/Conv_0/kernel"]
            for one in (variables, expected[1])
        )
    )
    with pytest.raises(cli.UserError, match=r"no released model in .*absent: pass an"):
        paper_models.from_released(tmp_path / "absent")
    (found.source / "report_2.json").write_text("{}")
    with pytest.raises(cli.UserError, match=r"report_2.json is not the file"):
        paper_models.from_released(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Makes a run that has ended."""
    config = baseline_dsprites.get_config("tiny")
    workdir = tmp_path_factory.mktemp("runs") / "run"
    variables = tiny_models.random_variables(build.build_model(config))
    tiny_runs.save_run(workdir, config, {4: variables, config.num_steps: variables})
    return workdir


def _seed(run, folder, seed, cost=None, **changes):
    """Copies the run with another seed, and with a report if there is a cost."""
    shutil.copytree(run, folder)
    config = json.loads((folder / "config.json").read_text()) | {"seed": seed}
    config |= changes
    (folder / "config.json").write_text(json.dumps(config))
    if cost is not None:
        value = paper_reports.like_shipped(seed, cost, None)
        value |= {"config": config, "step": 6}
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "report.json").write_text(json.dumps(value))
    return folder


def test_runs_and_those_that_failed(run, tmp_path):
    """Runs without figures are listed by seed, with what is missing."""
    folders = [
        _seed(run, tmp_path / "a", 7, 50.0),
        _seed(run, tmp_path / "b", 8),
        _seed(run, tmp_path / "c", 9, 51.0, num_steps=9),
        _seed(run, tmp_path / "d", 2, 53.0),
    ]
    shutil.rmtree(_seed(run, tmp_path / "e", 4) / "checkpoints")
    (found,) = paper_models.from_runs([*folders, tmp_path / "e"])
    assert (found.dataset, found.family) == ("multi_dsprites/tiny", BASELINE)
    assert [one.config["seed"] for one in found.reports] == [7, 2]
    assert found.source == tmp_path / "a"
    model, _ = paper_models.load(found)
    assert model == build.build_model(baseline_dsprites.get_config("tiny"))
    b, c, e = found.unmeasured
    assert b.startswith("seed 8: ") and f"evaluate --workdir={tmp_path / 'b'}" in b
    assert c.startswith("seed 9: ") and "has not ended: its newest checkpoint is" in c
    assert e.startswith("seed 4: ") and "holds no checkpoint yet" in e
    (row,) = paper_table.table([found])
    assert row.splits[0].negative_log_p.mean == 51.5 and len(row.failures) == 3


def test_a_group_without_figures(run, tmp_path):
    """A group without any figures is a gap that says that it was started."""
    (found,) = paper_models.from_runs([_seed(run, tmp_path / "a", 7)])
    assert found.source is None and found.reports == ()
    (row,) = paper_table.table([found])
    cells = _cells([row])["multi_dsprites/tiny", BASELINE]
    assert cells[:3] == ["0", "–", "not measured"]


def test_runs_are_grouped_and_compared(run, tmp_path):
    """Runs are grouped by data; another config in a group is refused, as is no run."""
    one, worse = (
        _seed(run, tmp_path / "one", 1, 50.0),
        _seed(run, tmp_path / "worse", 2, 51.0, batch_size=99),
    )
    other = _seed(run, tmp_path / "other", 0)
    config = json.loads(mnist_1k.get_config("tiny").to_json())
    (other / "config.json").write_text(json.dumps(config))
    groups = paper_models.from_runs([one, other])
    assert [(group.dataset, group.family) for group in groups] == [
        ("multi_dsprites/tiny", BASELINE),
        ("multi_mnist/tiny", LAVAE),
    ]
    with pytest.raises(cli.UserError, match=r"batch_size: 8 there, 99 here"):
        paper_models.from_runs([one, worse])
    (other / "config.json").write_text("{}")
    with pytest.raises(cli.UserError, match="the config has no part `model`"):
        paper_models.from_runs([one, other])
    with pytest.raises(cli.UserError, match="absent is not the workdir of a run"):
        paper_models.from_runs([one, tmp_path / "absent"])
