"""A release holds the run's model and figures, and refuses what is not measured."""

import json
import math
import shlex
import shutil
import types

import numpy as np
import pytest
from absl import flags

from experiments import cli, release
from experiments.configs import baseline, coloured, mnist_10k
from experiments.measure import report
from experiments.run import build
from lavae_jax import pretrained, released
from tests import commands, tiny_models, tiny_runs

pytestmark = pytest.mark.standard_promotion

NAME = "multi_dsprites_tiny"
_NUM_IMAGES = 6


@pytest.fixture(scope="module")
def variables(config):
    """Makes variables far enough from zero to see objects where there are none."""
    return tiny_models.random_variables(build.build_model(config), scale=0.2)


@pytest.fixture(scope="module")
def run(config, variables, tmp_path_factory):
    """Makes a run that has ended and was measured."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    return tiny_runs.measured_run(workdir, config, variables, _NUM_IMAGES)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """Releases the run by the command, and returns the model's folder."""
    out = tmp_path_factory.mktemp("weights")
    arguments = f"--workdir={run}", f"--out={out}", f"--min_images={_NUM_IMAGES}"
    assert commands.run_here(release, *arguments) == (0, "")
    return out / NAME


def _copy(run, folder, edit):
    """Copies a run, and changes its config and report, as JSON, by `edit`."""
    shutil.copytree(run, folder)
    paths = [folder / "config.json", folder / "evaluation" / "report.json"]
    contents = [json.loads(path.read_text()) for path in paths]
    edit(*contents)
    for path, content in zip(paths, contents, strict=True):
        path.write_text(json.dumps(content))
    return folder


def _with_seed(run, folder, seed, shift):
    """Makes another seed of a run, whose figures are worse by `shift`."""

    def edit(config, measured):
        config["seed"] = measured["config"]["seed"] = seed
        for split in measured["splits"]:
            split["bounds"][-1]["negative_log_p"]["mean"] += shift

    return _copy(run, folder, edit)


def test_a_release_is_the_model_of_the_run(folder, config, variables):
    """A release has the run's weights bitwise, config and report, without paths."""
    model, loaded = pretrained.load_released(folder)
    assert model == build.build_model(config)
    flat, wanted = pretrained.flatten(loaded), pretrained.flatten(variables)
    assert flat.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(flat[name], value)
    contents = released.read(folder)
    assert contents.config["data"]["data_dir"] == ""
    assert contents.config["optimizer"] == json.loads(config.optimizer.to_json())
    assert contents.report["config"] == contents.config
    assert [split["num_images"] for split in contents.report["splits"]] == [6, 6, 6]
    for name in (released.CONFIG, released.REPORT, released.CARD):
        assert config.data.data_dir not in (folder / name).read_text(), name


def test_several_seeds(run, tmp_path):
    """The card has each seed's figures, their mean and deviation, and the notes."""
    first = _with_seed(run, tmp_path / "a", 7, 1.5)
    second = _with_seed(run, tmp_path / "b", 8, -2.0)
    folder = release.release(
        [first, run, second], tmp_path / "out", min_images=_NUM_IMAGES
    )
    contents = released.read(folder)
    assert contents.config["seed"] == 7
    assert [one["config"]["seed"] for one in contents.other_reports] == [0, 8]
    assert all(
        one["config"]["data"]["data_dir"] == "" for one in contents.other_reports
    )
    measured = report.read(run / "evaluation" / "report.json")
    tables = (folder / "README.md").read_text().split("### ")[1:]
    for table, split in zip(tables, measured.splits, strict=True):
        cost = split.bounds[-1].negative_log_p.mean
        costs = np.array([cost + 1.5, cost, cost - 2.0])
        sd = math.sqrt(((costs - costs.mean()) ** 2).sum() / 2)
        cells = [cell.strip() for cell in table.splitlines()[4].split("|")[2:-1]]
        assert [cell.split(" ± ")[0] for cell in cells[:3]] == [
            f"{x:.2f}" for x in costs
        ]
        assert cells[3] == f"{costs.mean():.2f} ± {sd:.2f}"
    note = "It was made at commit 1a2b3c4."
    release.release([run], tmp_path / "out", _NUM_IMAGES, notes=[note])
    contents = released.read(folder)
    assert contents.other_reports == ()
    assert f"\n- {note}\n" in contents.card


def _set(target, names, value):
    *path, last = names
    for name in path:
        target = target[name]
    target[last] = value


@pytest.mark.parametrize(
    ("file", "names", "value", "message"),
    [
        ("report", ["step"], 4, "step 4.*step 6"),
        ("report", ["splits", 1, "num_images"], 5, "5 images of test_7, not 6"),
        ("report", ["splits"], 1, r"report\.json"),
        ("config", ["num_steps"], 9, "step 6 of 9"),
        ("config", ["model", "width"], 16, "model.width: 32 there, 16 he"),
        ("config", ["optimizer", "b2"], 0.9, r"has optimizer\.b2: release it"),
    ],
)
def test_what_is_not_released(run, tmp_path, file, names, value, message):
    """The message says what is wrong and what to do, and nothing is written."""

    def edit(config, measured):
        _set({"config": config, "report": measured}[file], names, value)

    workdir = _copy(run, tmp_path / "run", edit)
    with pytest.raises(cli.UserError, match=message):
        release.release([workdir], tmp_path / "out", min_images=_NUM_IMAGES)
    assert not (tmp_path / "out").exists()


def test_runs_that_do_not_belong_together(run, tmp_path):
    """Runs of another config, or with the same seed, are not released together."""

    def rate(config, measured):
        for values in (config, measured["config"]):
            values["seed"], values["optimizer"]["learning_rate"] = 5, 0.5

    for name, edit, message in (
        ("rate", rate, "optimizer.learning_rate: 0.001 there, 0.5"),
        ("same", lambda *_: None, "seeds 0, 0"),
    ):
        other = _copy(run, tmp_path / name, edit)
        with pytest.raises(cli.UserError, match=message):
            release.release([run, other], tmp_path / "out", _NUM_IMAGES)
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_report(run, tmp_path):
    """The message names the command to run first."""
    with pytest.raises(cli.UserError, match="6 images of test, not 10000"):
        release.release([run], tmp_path / "out")
    workdir = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(workdir / "evaluation")
    with pytest.raises(cli.UserError, match=r"experiments\.evaluate --workdir="):
        release.release([workdir], tmp_path / "out", _NUM_IMAGES)
    assert not (tmp_path / "out").exists()


VALUES = {
    "seed": 3,
    "optimizer.learning_rate": 1.5e-4,
    "elbo.superpose": 0.25,
    "model.image_shape": (32, 64, 1),
    "data.data_dir": "my data",
}


@pytest.mark.parametrize(
    ("module", "name", "values"),
    [
        (mnist_10k, "laptop", VALUES),
        (baseline, "mnist_1k:laptop", {"beta.steps": 7}),
        (coloured, "laptop", {"model.channels": 24}),
    ],
)
def test_the_training_command_gives_the_config(module, name, values):
    """The card's command, read by a shell and by flags, gives the run's config."""
    config = module.get_config(name)
    config.update_from_flattened_dict(values)
    command = release.training_command(json.loads(config.to_json()), "runs/x")
    assert command.count("--config.") == len(values)
    flag = []
    parsed = types.SimpleNamespace(
        _define_flags=lambda: (
            flag.append(cli.define_config()),
            flags.DEFINE_string("workdir", None, ""),
        ),
        main=lambda: flag.append(flag[0].value.to_json()),
    )
    arguments = shlex.split(command.replace("\\\n", " "))[3:]
    status, said = commands.run_here(parsed, *arguments)
    assert status == 0, said
    assert json.loads(flag[1]) == json.loads(config.to_json())
