"""The command makes the paper's table and figures, with means over seeds."""

import json
import math
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from datasets import load
from experiments.configs import baseline
from experiments.measure import report
from experiments.paper import __main__ as paper
from experiments.paper import table
from experiments.paper.subject import Settings
from experiments.paper.table import BASELINE, LAVAE, Models
from experiments.run import build
from lavae_jax import pretrained, released
from lavae_jax.config import build_model, from_run
from tests import commands, tiny_models, tiny_runs

pytestmark = pytest.mark.standard_promotion

NAME = "multi_dsprites/tiny"
_NUM_IMAGES = 24
_VARIABLES = {"seed": 12, "scale": 0.2}


def _like_shipped(seed, cost, counts, dataset="multi_dsprites", **config):
    """Returns the shipped report, as JSON holds it, with other figures on `test`."""
    value = json.loads((pretrained.FOLDER / "multi_dsprites/report.json").read_text())
    value["config"].update(config)
    value["config"]["seed"] = seed
    value["config"]["data"]["name"] = dataset
    split = value["splits"][0]
    split["bounds"][-1]["negative_log_p"]["mean"] = cost
    if counts is None:
        for split in value["splits"]:
            split["truth"] = split["counts"] = None
    else:
        split["truth"]["count_accuracy"] = counts
    return value


def _release(folder, reports, **variables):
    """Writes a released model with the config of these reports and random parameters.

    `tiny_models.random_variables` makes them, and takes `variables`.
    """
    first, *others = reports
    model = build_model(from_run(first["config"]))
    tensors = pretrained.flatten(tiny_models.random_variables(model, **variables))
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    released.write(
        folder,
        released.Released(tensors, first["config"], first, "", tuple(others)),
    )


@pytest.fixture(scope="module")
def weights(config, data_dir, tmp_path_factory):
    """Makes a released LAVAE of two seeds, which counts some objects, and a baseline.

    The baseline was measured on fewer images.
    """
    folder = tmp_path_factory.mktemp("weights")
    model = build.build_model(config)
    variables = tiny_models.random_variables(model, **_VARIABLES)
    images = load.images(NAME, "test", data_dir)
    images = np.stack([images[index] for index in range(_NUM_IMAGES)])
    threshold = tiny_models.counting_some(model, variables, images).count_threshold
    values = json.loads(config.to_json())["model"] | {"count_threshold": threshold}
    reports = [
        _like_shipped(seed, cost, 0.9, NAME, model=values)
        for seed, cost in ((0, 40.0), (1, 42.0))
    ]
    _release(folder / "multi_dsprites_tiny", reports, **_VARIABLES)
    values = json.loads(baseline.get_config("dsprites:tiny").to_json())["model"]
    report = _like_shipped(0, 55.5, None, NAME, model=values)
    for split in report["splits"]:
        split["num_images"] = 1_000
    _release(folder / "baseline_dsprites_tiny", [report])
    return folder


@pytest.fixture(scope="module")
def made(weights, data_dir, tmp_path_factory):
    """Makes the page, and returns the folder it is in."""
    out = tmp_path_factory.mktemp("paper") / "out"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        settings = Settings(_NUM_IMAGES, 2, data_dir)
        page = paper.make(table.from_released(weights), out, settings)
    assert page == out / "report.md"
    return out


def test_all_is_there(made):
    """The page shows every picture there is, and the means over seeds."""
    page = (made / "report.md").read_text()
    files = {
        str(path.relative_to(made)) for path in made.rglob("*") if path.suffix == ".png"
    }
    assert set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)) == files
    for file in files:
        with Image.open(made / file) as picture:
            assert picture.width > 100
    assert len(files) > 4
    assert f"| {NAME} | LAVAE | 2 | 10,000 | 41.0 ± 1.4 |" in page
    assert f"| {NAME} | baseline | 1 | 1,000 | 55.5 |" in page


def test_what_can_not_be_made(tmp_path):
    """A run that does not exist is refused before anything is written."""
    status, said = commands.run_here(paper, f"--out={tmp_path}/out", "--workdir=absent")
    assert status == 1 and "absent" in said
    assert not (tmp_path / "out").exists()


def _models(family, *reports, dataset="multi_dsprites", **fields):
    reports = tuple(report.typed(report.Report, one) for one in reports)
    return Models(dataset, family, reports, **fields)


def _cells(models):
    """Splits the table's lines into cells, by data and model."""
    lines = [line for line in table.markdown(models).splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {(line[0], line[1]): line[2:] for line in cells}


def test_means_and_deviations_over_seeds():
    """Each figure has its mean over seeds, and its deviation with n - 1."""
    costs, shares = [35.0, 36.5, 41.0], [0.9996, 1.0, 0.9991]
    values = zip(range(3), costs, shares, strict=True)
    models = _models(LAVAE, *(_like_shipped(*one) for one in values))
    mean = sum(costs) / 3
    deviation = math.sqrt(sum((cost - mean) ** 2 for cost in costs) / 2)
    cells = _cells([models])["multi-dSprites", "LAVAE"]
    assert cells[:7] == [
        *("3", "10,000", f"{mean:.1f} ± {deviation:.1f}", "43.9 ± 1.0", "25.0"),
        *("99.96% ± 0.05%", "≥ 99.9%"),
    ]
    # All seeds have the same figures on test_7.
    seven = _like_shipped(0, 35.0, 1.0)["splits"][1]
    cost = seven["bounds"][-1]["negative_log_p"]["mean"]
    share = seven["truth"]["count_accuracy"]
    assert cells[7:] == [f"{cost:.1f} ± 0.0", "104.5", f"{share:.2%} ± 0.00%"]


def test_what_is_not_trained_is_a_gap():
    """Data sets without a model have the paper's figures and count as not trained."""
    models = [_models(LAVAE, _like_shipped(0, 35.0, 1.0))]
    cells = _cells(table.complete(models))
    assert len(cells) == 8  # with the heading and the line below it
    assert cells["multi-MNIST-10k", LAVAE] == [
        *("0", "–", "not trained", "60.4 ± 2.8", "–", "–", "≥ 99.7%", "–", "–", "–")
    ]
    assert cells["multi-MNIST-1k", BASELINE][2:4] == ["not trained", "51.6 ± 0.6"]


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
        value = _like_shipped(seed, cost, None)
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
    (found,) = table.from_runs(folders)
    assert (found.dataset, found.family) == ("multi_dsprites/tiny", BASELINE)
    assert [one.config["seed"] for one in found.reports] == [7, 2]
    assert found.source == tmp_path / "a"
    b, c = found.unmeasured
    assert b.startswith("seed 8: ") and f"evaluate --workdir={tmp_path / 'b'}" in b
    assert c.startswith("seed 9: ") and "has not ended" in c
    text = table.markdown([found])
    assert "| 51.5 ± 2.1 |" in text and text.count("- multi_dsprites/tiny") == 2
