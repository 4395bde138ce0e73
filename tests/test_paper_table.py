"""Table 1: means over seeds, gaps, failures, from released models and from runs."""

import json
import math
import shutil

import pytest

from experiments.configs import baseline
from experiments.measure import report
from experiments.paper import table as paper_table
from experiments.paper.table import BASELINE, LAVAE, Models
from experiments.run import build
from tests import paper_reports, tiny_models, tiny_runs

pytestmark = pytest.mark.standard_promotion


def _models(family, *reports, dataset="multi_dsprites", **fields):
    return Models(dataset, family, tuple(map(report.from_plain, reports)), **fields)


def _cells(models):
    """Splits the table's lines into cells, by data and model."""
    lines = [line for line in paper_table.markdown(models).splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {(line[0], line[1]): line[2:] for line in cells}


def test_means_and_deviations_over_seeds():
    """Each figure has its mean over seeds, and its deviation with n - 1."""
    costs, shares = [35.0, 36.5, 41.0], [0.9996, 1.0, 0.9991]
    values = zip(range(3), costs, shares, strict=True)
    models = _models(LAVAE, *(paper_reports.like_shipped(*one) for one in values))
    mean = sum(costs) / 3
    deviation = math.sqrt(sum((cost - mean) ** 2 for cost in costs) / 2)
    assert paper_table.markdown([models]).endswith("No failures.\n")
    cells = _cells([models])["multi-dSprites", "LAVAE"]
    assert cells[:7] == [
        *("3", "10,000", f"{mean:.1f} ± {deviation:.1f}", "43.9 ± 1.0", "25.0"),
        *("99.96% ± 0.05%", "≥ 99.9%"),
    ]
    # All seeds have the same figures on test_7.
    seven = paper_reports.like_shipped(0, 35.0, 1.0)["splits"][1]
    cost = seven["bounds"][-1]["negative_log_p"]["mean"]
    share = seven["truth"]["count_accuracy"]
    assert cells[7:] == [f"{cost:.1f} ± 0.0", "104.5", f"{share:.2%} ± 0.00%"]


def test_what_is_not_trained_is_a_gap():
    """Data sets of the paper without a model have its figures and say so."""
    models = [_models(LAVAE, paper_reports.like_shipped(0, 35.0, 1.0))]
    cells = _cells(paper_table.complete(models))
    assert len(cells) == 8  # with the heading and the line below it
    assert cells["multi-MNIST-10k", LAVAE] == [
        *("0", "–", "not trained", "60.4 ± 2.8", "–", "–", "≥ 99.7%", "–", "–", "–")
    ]
    assert cells["multi-MNIST-1k", BASELINE][2:4] == ["not trained", "51.6 ± 0.6"]


def test_seeds_behind_the_paper_are_listed():
    """Each seed behind the paper is listed, and counts in the mean all the same."""
    lavae = _models(
        LAVAE,
        paper_reports.like_shipped(0, 43.9, 0.999),
        paper_reports.like_shipped(1, 44.2, 0.999),
        paper_reports.like_shipped(2, 40, 0.9985),
        unmeasured=("seed 3: runs/3 has\n  not ended.",),
    )
    assert _cells([lavae])["multi-dSprites", "LAVAE"][2].startswith("42.7 ± ")
    text = paper_table.markdown([lavae])
    listed = [line for line in text.splitlines() if line.startswith("- multi-dSprites")]
    assert len(listed) == 3
    for line, parts in zip(
        listed, (("3: runs/3",), ("1: ", "44.2"), ("2: ", "99.85%")), strict=True
    ):
        assert all(part in line for part in parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Makes a run that has ended."""
    config = baseline.get_config("dsprites:tiny")
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
    (found,) = paper_table.from_runs(folders)
    assert (found.dataset, found.family) == ("multi_dsprites/tiny", BASELINE)
    assert [one.config["seed"] for one in found.reports] == [7, 2]
    assert found.source == tmp_path / "a"
    b, c = found.unmeasured
    assert b.startswith("seed 8: ") and f"evaluate --workdir={tmp_path / 'b'}" in b
    assert c.startswith("seed 9: ") and "has not ended" in c
    text = paper_table.markdown([found])
    assert "| 51.5 ± 2.1 |" in text and text.count("- multi_dsprites/tiny") == 2
