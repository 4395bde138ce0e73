"""The command makes the paper's table and figures, from start to end."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from datasets import load
from experiments import cli
from experiments.configs import baseline_dsprites
from experiments.paper import __main__ as paper
from experiments.paper import claims as paper_claims
from experiments.paper import figures as paper_figures
from experiments.paper import models as paper_models
from experiments.paper.subject import Settings
from experiments.run import build
from lavae_jax.latents import counts
from tests import commands, paper_reports, tiny_models

pytestmark = pytest.mark.standard_promotion

NAME = "multi_dsprites/tiny"
_NUM_IMAGES = 24
_VARIABLES = {"seed": 12, "scale": 0.2}


def _threshold_that_counts_some(model, variables, data_dir):
    """Finds one with which an image of 3 and one of 7 objects are counted right."""
    peaks, true_n = [], []
    for split in ("test", "test_7"):
        source = load.data_source(NAME, split, data_dir)
        examples = [source[index] for index in range(_NUM_IMAGES)]
        images = np.stack([example["image"] for example in examples]) / np.float32(255)
        h_loc = model.bind(variables).location_logits(images)
        peaks.append(np.where(counts.local_maxima(h_loc), h_loc, -np.inf))
        true_n += [int(example["n"]) for example in examples]
    peaks, true_n = np.concatenate(peaks), np.array(true_n)
    for threshold in np.quantile(peaks[np.isfinite(peaks)], np.linspace(1, 0.3, 400)):
        right = (peaks > threshold).sum(axis=(1, 2)) == true_n
        if right[true_n == 3].any() and right[true_n == 7].any():
            return float(threshold)
    raise AssertionError("no threshold counts an image of 3 and one of 7 objects right")


@pytest.fixture(scope="module")
def weights(config, data_dir, tmp_path_factory):
    """Makes released models: a LAVAE of two seeds that counts some objects, a baseline.

    The baseline was measured on fewer images.
    """
    folder = tmp_path_factory.mktemp("weights")
    model = build.build_model(config)
    variables = tiny_models.random_variables(model, **_VARIABLES)
    threshold = _threshold_that_counts_some(model, variables, data_dir)
    values = json.loads(config.to_json())["model"] | {"count_threshold": threshold}
    reports = [
        paper_reports.like_shipped(seed, cost, 0.9, NAME, model=values)
        for seed, cost in ((0, 40.0), (1, 42.0))
    ]
    paper_reports.release(folder / "multi_dsprites_tiny", reports, **_VARIABLES)
    values = json.loads(baseline_dsprites.get_config("tiny").to_json())["model"]
    report = paper_reports.like_shipped(0, 55.5, None, NAME, model=values)
    for split in report["splits"]:
        split["num_images"] = 1_000
    paper_reports.release(folder / "baseline_dsprites_tiny", [report])
    return folder


@pytest.fixture(scope="module")
def made(weights, data_dir, tmp_path_factory):
    """Runs the command; gives the process and the folder it wrote to."""
    out = tmp_path_factory.mktemp("paper") / "out"
    done = commands.run_python(
        *("-m", "experiments.paper", f"--out={out}", f"--weights={weights}"),
        *(f"--data_dir={data_dir}", f"--num_images={_NUM_IMAGES}", "--seed=2"),
    )
    assert done.returncode == 0, done.stderr
    return done, out


def test_all_is_there(made):
    """The page shows every picture there is; table and page are there as JSON too."""
    done, out = made
    assert done.stdout == f"Read {out / 'report.md'}.\n"
    assert NAME in done.stderr and "Traceback" not in done.stderr
    page = (out / "report.md").read_text()
    files = {
        str(path.relative_to(out)) for path in out.rglob("*") if path.suffix == ".png"
    }
    assert set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)) == files
    for file in files:
        with Image.open(out / file) as picture:
            assert picture.width > 100
    found = json.loads((out / "report.json").read_text())
    assert (found["num_images"], found["seed"]) == (_NUM_IMAGES, 2)
    (one,) = found["datasets"]
    names = [picture["name"] for picture in one["pictures"]]
    assert names == paper_figures.names()
    for picture in one["pictures"]:
        assert f"multi_dsprites_tiny/{picture['file']}" in files
        assert picture["caption"] in page
    assert len(files) == len(names) + 1 and "multi_dsprites_tiny/counts.png" in files


def test_the_table(made):
    """The table has both models with means over seeds, and gaps for the paper's."""
    _, out = made
    text = (out / "table1.md").read_text()
    page = (out / "report.md").read_text()
    assert text in page
    assert (
        f"| {NAME} | LAVAE | 2 | 10,000 | 41.0 ± 1.4 | – | 25.0 | 90.00% ± 0.00% |"
        in text
    )
    assert f"| {NAME} | baseline | 1 | 1,000 | 55.5 | – |" in text
    assert text.count("not trained") == 6
    assert "## multi-MNIST-10k\n\nNo figures: LAVAE is not trained." in page
    rows = json.loads((out / "table1.json").read_text())
    assert rows == json.loads((out / "report.json").read_text())["table"]
    assert [row["seeds"] for row in rows] == [[]] * 6 + [[0, 1], [0]]


def test_the_claims(made):
    """The page has the numbers of all claims in the JSON."""
    _, out = made
    page = (out / "report.md").read_text()
    (one,) = json.loads((out / "report.json").read_text())["datasets"]
    claims = one["claims"]
    assert list(claims) == list(paper_claims.Claims._fields)
    assert claims["counts"]["num_scenes"] == [_NUM_IMAGES] * 11
    cells = [f"{share:.1%}" for share in claims["counts"]["accuracy"]]
    assert f"| counted right | {' | '.join(cells)} |" in page
    assert claims["calibration"]["num_scenes"] == 192
    assert f"{claims['calibration']['divergence']:.2g} nats per image" in page
    largest = max(range(32), key=lambda dim: claims["effects"][dim])
    assert f"the largest first: {largest} ({claims['effects'][largest]:.3f})" in page


def test_what_can_not_be_made(weights, data_dir, tmp_path):
    """Invalid settings and names are refused before anything is written."""
    models = paper_models.from_released(weights)
    for settings, message in (
        (Settings(num_images=0), "--num_images must be at least 1: 0"),
        (Settings(seed=-1), "--seed must not be negative: got -1"),
        (Settings(data_dir=str(tmp_path / "file" / "x")), "file"),
    ):
        (tmp_path / "file").touch()
        with pytest.raises(cli.UserError, match=message):
            paper.make(models, tmp_path / "out", settings)
    with pytest.raises(
        cli.UserError,
        match=r"no measured LAVAE of multi_mnist/1k; .* of: multi_dsprites/tiny",
    ):
        paper.make(models, tmp_path / "out", datasets=["multi_mnist/1k"])
    own = models[1]._replace(dataset="own", family="LAVAE")
    with pytest.raises(
        cli.UserError, match=r"scenes whose objects are known, .* of own"
    ):
        paper.make([own], tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_nothing_trained_leaves_a_table_of_gaps(tmp_path):
    """Without any model, table and page say that nothing is trained."""
    result = paper.make([], tmp_path)
    assert result.datasets == () and len(result.table) == 6
    assert (tmp_path / "report.md").read_text().count("LAVAE is not trained") == 3


def test_flags_that_exclude_each_other(tmp_path):
    """Excluding flags give one clear line, and status 1."""
    status, said = commands.run_here(
        paper, f"--out={tmp_path}", "--workdir=a", "--weights=b"
    )
    assert status == 1
    assert said.startswith("error: --workdir and --weights exclude each other")
