"""The baseline is released like LAVAE, without figures of objects."""

import numpy as np
import pytest

from experiments import evaluate, release
from experiments.configs import baseline_dsprites, baseline_mnist_1k, mnist_10k
from experiments.measure import measure, report
from experiments.run import build
from lavae_jax import pretrained, released
from tests import test_pretrained, tiny_models, tiny_runs

pytestmark = pytest.mark.standard_promotion

NAME = "baseline_dsprites_tiny"


@pytest.fixture(scope="module")
def config(data_dir):
    """Gives the tiny variant of the baseline."""
    config = baseline_dsprites.get_config("tiny")
    config.data.data_dir = data_dir
    return config


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
    """Releases a run."""
    variables = tiny_models.random_variables(build.build_model(config))
    workdir = tmp_path_factory.mktemp("runs") / "run"
    tiny_runs.measured_run(workdir, config, variables, num_images=4)
    out = tmp_path_factory.mktemp("weights")
    return release.release(NAME, [workdir], out, min_images=4)


def test_a_baseline_is_released(folder, config):
    """It loads like LAVAE, and its card has no figures of objects."""
    model, variables = pretrained.load_released(folder)
    assert model == build.build_model(config)
    found = pretrained.flatten(variables)
    wanted = pretrained.flatten(tiny_models.random_variables(model))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
    card = (folder / "README.md").read_text()
    split = report.read(folder / "report.json").splits[0]
    cost = split.bounds[-1].negative_log_p
    for text in (
        f'load_pretrained("{NAME}")',
        "The baseline, a fully convolutional β-VAE, trained without labels",
        "experiments/configs/baseline_dsprites.py:tiny \\\n  --workdir=runs/baseline",
        f"100 importance samples | {cost.mean:.2f} ± {cost.standard_error:.2f} |",
        f"| floor of this family of models, nats | {split.floor.entropy:.2f} |",
        "It has no objects: there is nothing to count",
    ):
        assert text in card
    for absent in ("counted right", "location error", "ARI", "p(n)", "at most"):
        assert absent not in card


def test_a_baseline_has_a_name_of_its_own():
    """The baseline's name differs from that of LAVAE on the same data."""
    for name, module in (
        ("multi_mnist_10k", mnist_10k),
        ("baseline_mnist_1k", baseline_mnist_1k),
        ("baseline_dsprites", baseline_dsprites),
    ):
        assert release.released_name(module.get_config("laptop").to_dict()) == name


def test_figures_of_a_released_baseline_are_checked(folder, config):
    """The test of released figures passes, and fails if a claimed bound is too low."""
    contents, model = released.read(folder), build.build_model(config)
    measured = evaluate.evaluate(
        config,
        model,
        pretrained.load_released(folder)[1],
        splits=["test"],
        settings=measure.Settings(num_images=200, num_samples=10),
    )
    for name, shift, expected in (("same", 0, True), ("worse", 9, False)):
        claimed = report.plain(measured)
        cost = claimed["splits"][0]["bounds"][-1]["negative_log_p"]
        cost["mean"] -= shift * cost["standard_error"]
        other = folder.with_name(name)
        released.write(other, contents._replace(report=claimed))
        if expected:
            test_pretrained.check_figures(other)
        else:
            with pytest.raises(AssertionError):
                test_pretrained.check_figures(other)
