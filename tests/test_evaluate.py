"""Evaluation reports what was inferred, writes it, and refuses bad requests.

The model is a tiny one that has learned nothing; its parameters are far enough from
zero that it sees objects of all kinds where there are none.
"""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import lavae_jax
from experiments import evaluate
from experiments.measure import measure, report
from experiments.run import build
from lavae_jax import metrics, plotting, pretrained
from tests import tiny_models, tiny_runs
from tests.commands import run_here

pytestmark = pytest.mark.standard_promotion

_NUM_IMAGES = 23
_SETTINGS = measure.Settings(_NUM_IMAGES, num_samples=12, batch_size=10, seed=5)


@pytest.fixture(scope="module")
def variables(config):
    """Makes random parameters."""
    return tiny_models.random_variables(build.build_model(config), scale=0.2)


@pytest.fixture(scope="module")
def sets(config):
    """Reads the first scenes of both test splits."""
    return list(measure.split_sets(config.data, None, _NUM_IMAGES))


@pytest.fixture(scope="module")
def model(config, variables, sets):
    """Makes a model that counts from none to many objects."""
    model = build.build_model(config)
    return tiny_models.counting_some(model, variables, sets[0].images)


@pytest.fixture(scope="module")
def written(config, model, variables, tmp_path_factory):
    """Evaluates both test splits; gives the report and the folder it wrote to."""
    out = tmp_path_factory.mktemp("evaluation")
    result = evaluate.evaluate(
        config, model, variables, step=7, settings=_SETTINGS, out=out
    )
    return result, out


def test_report_agrees_with_its_parts(written, model, variables, sets):
    """The report is that of its parts: inference and comparison by the settings."""
    result, _ = written
    log_p_n = measure.learned_log_p_n(model, variables)
    np.testing.assert_allclose(np.exp(log_p_n).sum(), 1.0, rtol=1e-5)
    for split, image_set in zip(result.splits, sets, strict=True):
        inferred = measure.infer(model, variables, image_set, _SETTINGS)
        expected = measure.compare(image_set, inferred, log_p_n)
        assert report.plain(split) == report.plain(expected)
        assert [bound.num_samples for bound in split.bounds] == [1, 10, 12]
    assert (result.step, result.seed, result.data_version) == (7, 5, "1.0.0")
    assert result.epsilon == model.epsilon
    assert result.versions["jax"] == jax.__version__


def test_written_files(written, config):
    """The folder has the report as JSON with every figure, and readable pictures."""
    result, out = written
    content = json.loads((out / "report.json").read_text())
    assert content == report.plain(result)
    assert content["config"] == json.loads(config.to_json())
    assert len(list(out.glob("*.png"))) == 5
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()


def test_reports_are_read_as_they_were_written(written, tmp_path):
    """Every field is read in its type; a file that is no report is named."""
    result, out = written
    again = report.read(out / "report.json")
    assert report.plain(again) == report.plain(result)
    truth = again.splits[1].truth
    np.testing.assert_array_equal(truth.confusion, result.splits[1].truth.confusion)
    assert truth.location == result.splits[1].truth.location
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match=r"report\.json is not a report"):
        report.read(tmp_path / "report.json")


def test_samples_are_those_of_the_prior(written, model, variables, tmp_path):
    """The picture shows what `generate` draws with the report's seed."""
    samples = lavae_jax.generate(model, variables, jax.random.key(_SETTINGS.seed), 36)
    assert len(np.unique(samples.round(2).reshape(36, -1), axis=0)) > 20
    plotting.save(plotting.samples_grid(samples), tmp_path / "expected.png")
    expected = (tmp_path / "expected.png").read_bytes()
    assert (written[1] / "samples.png").read_bytes() == expected


def test_undefined_figures_are_null():
    """JSON has no NaN: an undefined mean is null and everything else stays."""
    estimate = metrics.Estimate(np.nan, np.inf, 0)
    assert report.plain({"a": estimate, "b": (np.float32(0.5), np.int64(3))}) == {
        "a": {"mean": None, "standard_error": None, "num": 0},
        "b": [0.5, 3],
    }


def test_command_evaluates_the_latest_checkpoint(config, variables, sets, tmp_path):
    """On one's own images there are counts and bounds, and nothing that needs truth."""
    workdir = tmp_path / "run"
    tiny_runs.save_run(workdir, config, {4: variables, 11: variables})
    np.savez(tmp_path / "own.npz", sets[0].images > 0)
    status, said = run_here(
        evaluate,
        f"--workdir={workdir}",
        f"--images={tmp_path / 'own.npz'}",
        "--num_images=8",
        "--num_samples=2",
    )
    assert status == 0, said
    found = report.read(workdir / "evaluation_own_images" / "report.json")
    (split,) = found.splits
    assert (found.step, split.num_images) == (11, 8)
    assert split.truth is None and split.floor is None
    scene = lavae_jax.infer(build.build_model(config), variables, sets[0].images[:8])
    np.testing.assert_array_equal(split.counts, np.bincount(scene.n, minlength=11))


def test_command_evaluates_a_released_model(tmp_path):
    """A released model is evaluated by its name, without a run."""
    images = np.zeros((2, 64, 64, 1), np.uint8)
    images[0, 20:30, 20:30] = 255
    np.savez(tmp_path / "own.npz", images)
    status, said = run_here(
        evaluate,
        "--weights=multi_mnist_1k",
        f"--images={tmp_path / 'own.npz'}",
        "--num_samples=2",
        f"--out={tmp_path / 'out'}",
    )
    assert status == 0, said
    content = json.loads((tmp_path / "out/report.json").read_text())
    released = pretrained.FOLDER / "multi_mnist_1k"
    assert content["step"] == json.loads((released / "report.json").read_text())["step"]
    config = json.loads((released / "config.json").read_text())
    assert content["config"] == config
