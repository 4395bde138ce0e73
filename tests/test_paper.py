"""The command makes the paper's table and figures, from start to end."""

import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from datasets import load
from experiments import cli
from experiments.configs import baseline
from experiments.paper import __main__ as paper
from experiments.paper import models as paper_models
from experiments.paper.subject import Settings
from experiments.run import build
from tests import commands, paper_reports, tiny_models

pytestmark = pytest.mark.standard_promotion

NAME = "multi_dsprites/tiny"
_NUM_IMAGES = 24
_VARIABLES = {"seed": 12, "scale": 0.2}


@pytest.fixture(scope="module")
def weights(config, data_dir, tmp_path_factory):
    """Makes released models: a LAVAE of two seeds that counts some objects, a baseline.

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
        paper_reports.like_shipped(seed, cost, 0.9, NAME, model=values)
        for seed, cost in ((0, 40.0), (1, 42.0))
    ]
    paper_reports.release(folder / "multi_dsprites_tiny", reports, **_VARIABLES)
    values = json.loads(baseline.get_config("dsprites:tiny").to_json())["model"]
    report = paper_reports.like_shipped(0, 55.5, None, NAME, model=values)
    for split in report["splits"]:
        split["num_images"] = 1_000
    paper_reports.release(folder / "baseline_dsprites_tiny", [report])
    return folder


@pytest.fixture(scope="module")
def made(weights, data_dir, tmp_path_factory):
    """Runs the command; gives the folder it wrote to."""
    out = tmp_path_factory.mktemp("paper") / "out"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        status, said = commands.run_here(
            paper,
            *(f"--out={out}", f"--weights={weights}"),
            *(f"--data_dir={data_dir}", f"--num_images={_NUM_IMAGES}", "--seed=2"),
        )
    assert status == 0, said
    return out


def test_all_is_there(made):
    """The page shows every picture there is; table and page are there as JSON too."""
    page = (made / "report.md").read_text()
    files = {
        str(path.relative_to(made)) for path in made.rglob("*") if path.suffix == ".png"
    }
    assert set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)) == files
    for file in files:
        with Image.open(made / file) as picture:
            assert picture.width > 100
    found = json.loads((made / "report.json").read_text())
    assert (found["num_images"], found["seed"]) == (_NUM_IMAGES, 2)
    (one,) = found["datasets"]
    pictures = [picture for picture in one["pictures"] if picture["file"]]
    assert len(files) == len(pictures) + 1 > 4  # one is that of the counts


def test_the_table(made):
    """The table has both models with means over seeds, and gaps for the paper's."""
    text = (made / "table1.md").read_text()
    assert text in (made / "report.md").read_text()
    assert (
        f"| {NAME} | LAVAE | 2 | 10,000 | 41.0 ± 1.4 | – | 25.0 | 90.00% ± 0.00% |"
        in text
    )
    assert f"| {NAME} | baseline | 1 | 1,000 | 55.5 | – |" in text
    assert text.count("not trained") == 6
    rows = json.loads((made / "table1.json").read_text())
    assert rows == json.loads((made / "report.json").read_text())["table"]


def test_the_claims(made):
    """The page has the numbers of all claims in the JSON."""
    page = (made / "report.md").read_text()
    (one,) = json.loads((made / "report.json").read_text())["datasets"]
    claims = one["claims"]
    assert claims["counts"]["num_scenes"] == [_NUM_IMAGES] * 11
    cells = [f"{share:.1%}" for share in claims["counts"]["accuracy"]]
    assert f"| counted right | {' | '.join(cells)} |" in page
    assert claims["calibration"]["num_scenes"] == 192
    assert f"{claims['calibration']['divergence']:.2g} nats per image" in page


def test_what_can_not_be_made(weights, tmp_path):
    """Invalid settings and names are refused before anything is written."""
    models = paper_models.from_released(weights)
    with pytest.raises(cli.UserError, match="--num_images must be at least 1: 0"):
        paper.make(models, tmp_path / "out", Settings(num_images=0))
    with pytest.raises(cli.UserError, match="no measured LAVAE of multi_mnist/1k"):
        paper.make(models, tmp_path / "out", datasets=["multi_mnist/1k"])
    assert not (tmp_path / "out").exists()
