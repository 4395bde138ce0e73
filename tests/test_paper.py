"""The command makes the paper's table and figures, from start to end."""

import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from datasets import load
from experiments.configs import baseline
from experiments.paper import __main__ as paper
from experiments.paper import table
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
    """Makes the page; gives the folder it is in."""
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


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num_images=0", "0 is not a positive integer"),
        ("--seed=-1", "-1 is not a non-negative integer"),
        ("--workdir=absent", "absent"),
    ],
)
def test_what_can_not_be_made(tmp_path, flag, message):
    """Invalid settings and runs are refused before anything is written."""
    status, said = commands.run_here(paper, f"--out={tmp_path / 'out'}", flag)
    assert status == 1 and message in said
    assert not (tmp_path / "out").exists()
