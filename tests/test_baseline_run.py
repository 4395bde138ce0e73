"""The baseline from its config to a trained model and its report, by the commands."""

import io
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

import lavae_jax
from datasets import floors, load
from experiments import cli, train
from experiments.configs import base, baseline_dsprites
from experiments.measure import measure, report
from experiments.run import build, loop
from lavae_jax import runs
from lavae_jax.training.parallel import Devices
from tests.commands import run_here
from tests.joined_processes import finished

pytestmark = pytest.mark.standard_promotion

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "experiments/configs/baseline_dsprites.py:tiny"
CONFIGS = ("baseline_dsprites", "baseline_mnist_1k", "baseline_mnist_10k")


@pytest.fixture(scope="module")
def config(data_dir):
    """Four steps, a checkpoint after every other one."""
    config = cli.load_config(str(ROOT / CONFIG))
    config.data.data_dir = data_dir
    config.update(num_steps=4, batch_size=4, log_every=1, checkpoint_every=2)
    config.update(eval_every=4, picture_every=4)
    return config


@pytest.fixture(scope="module")
def unbroken(config, tmp_path_factory):
    """The workdir of a run."""
    workdir = tmp_path_factory.mktemp("unbroken")
    _train(config, workdir)
    return workdir


def _train(config, workdir):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return loop.run(
            build.build(config), config, workdir, Devices(jax.devices()[:1])
        )


def _rows(workdir, part):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [row for line in lines if (row := json.loads(line))["part"] == part]
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows]


def test_what_a_run_leaves_behind(unbroken):
    """ELBO and β of every step, the ELBO of held-out scenes, and a picture."""
    rows = _rows(unbroken, "train")
    assert [row["beta"] for row in rows] == [0, 0.25, 0.5, 0.75]
    for row in rows:
        assert row["elbo"] == pytest.approx(row["log_px"] - row["kl"], rel=1e-5)
    (held_out,) = _rows(unbroken, "held_out")
    assert held_out["elbo"] == pytest.approx(held_out["log_px"] - held_out["kl"])
    assert [path.name for path in (unbroken / "pictures").iterdir()] == [
        "step_00000004.png"
    ]


def test_goes_on_exactly_where_it_was(config, unbroken, tmp_path):
    """A run killed after step 2 makes bitwise the steps it would have made."""
    killed = tmp_path / "killed"
    shutil.copytree(unbroken, killed)
    shutil.rmtree(killed / "checkpoints" / "4")
    result = _train(config, killed)
    for part in ("train", "held_out"):
        assert _rows(killed, part) == _rows(unbroken, part)
    assert result.held_out.elbo == _rows(unbroken, "held_out")[-1]["elbo"]
    variables = [runs.read(workdir).variables for workdir in (killed, unbroken)]
    jax.tree.map(np.testing.assert_array_equal, *variables)


def test_two_processes_make_the_same_steps(unbroken, data_dir, tmp_path):
    """The command in two processes of two devices; one of them writes and reports."""
    overrides = dict(num_steps=4, batch_size=4, log_every=1, checkpoint_every=2)
    printed = finished(
        lambda address, index: (
            *("-m", "experiments.train", f"--config={CONFIG}"),
            f"--workdir={tmp_path / 'run'}",
            f"--config.data.data_dir={data_dir}",
            *(f"--config.{name}={value}" for name, value in overrides.items()),
            f"--coordinator_address={address}",
            "--num_processes=2",
            f"--process_id={index}",
        ),
        tmp_path,
    )
    assert ["step 4/4" in text for text in printed] == [True, False]
    assert "4 x cpu in 2 processes" in printed[0]
    for part in ("train", "held_out"):
        rows, expected = _rows(tmp_path / "run", part), _rows(unbroken, part)
        assert [row["step"] for row in rows] == [row["step"] for row in expected]
        for row, same in zip(rows, expected, strict=True):
            assert row.pop("part") == same.pop("part")
            assert row == pytest.approx(same, rel=1e-4)
    for folder in ("checkpoints", "pictures"):
        names = [
            {p.name for p in (d / folder).iterdir()}
            for d in (tmp_path / "run", unbroken)
        ]
        assert names[0] == names[1]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_a_run_is_loaded(config, unbroken):
    """`lavae_jax.load` gives the model of the config, with what it has learned."""
    model, variables = lavae_jax.load(unbroken)
    assert model == build.build_model(config)
    fresh = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(
        fresh["params"]
    )
    assert lavae_jax.generate(model, variables, jax.random.key(0), 2).shape == (
        *(2, 64, 64, 3),
    )


def _command(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def commands(data_dir, tmp_path_factory):
    """What training and evaluation print, and the folder they wrote to."""
    workdir = tmp_path_factory.mktemp("commands") / "run"
    trained = _command(
        "train",
        f"--config={CONFIG}",
        f"--workdir={workdir}",
        f"--config.data.data_dir={data_dir}",
        "--config.num_steps=2",
        "--config.batch_size=4",
        "--config.log_every=1",
        "--config.precision=bfloat16",
    )
    assert trained.returncode == 0, trained.stderr
    evaluated = _command(
        "evaluate", f"--workdir={workdir}", "--num_images=5", "--num_samples=12"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    return trained.stdout, evaluated.stdout, workdir


def test_the_commands_say_what_there_is(commands):
    """Training shows the ELBO; evaluation says what does not apply, and no zeros."""
    trained, evaluated, _ = commands
    assert trained.splitlines()[-2].startswith("step 2/2  held-out scenes  elbo ")
    text = " ".join(evaluated.split())
    assert "-log p(x), K = 12" in text and "the baseline has no objects" in text
    for absent in ("accuracy", "location error", "ARI", "inferred"):
        assert absent not in text


def test_training_in_bfloat16(commands, unbroken):
    """Close to float32, but not the same; what is stored, and measured, is float32."""
    workdir = commands[2]
    elbo, same = (_rows(place, "train")[0]["elbo"] for place in (workdir, unbroken))
    assert elbo == pytest.approx(same, rel=0.01) and elbo != same
    _, variables = lavae_jax.load(workdir)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


def test_the_report(commands, data_dir):
    """The bounds of the library, the entropy as the floor, null for the rest."""
    workdir = commands[2]
    found = report.read(workdir / "evaluation" / "report.json")
    names = sorted(path.name for path in (workdir / "evaluation").iterdir())
    assert names == [
        "report.json",
        "samples.png",
        "test_7_reconstructions.png",
        "test_reconstructions.png",
    ]
    settings = measure.Settings(num_images=5, num_samples=12)
    model, variables = lavae_jax.load(workdir)
    (image_set,) = measure.split_sets(_data(data_dir), ["test_7"], 5)
    inferred = measure.infer(model, variables, image_set, settings)
    assert inferred.scenes is None
    split = found.splits[1]
    expected = measure.compare(image_set, inferred, None)
    for bound, again in zip(split.bounds, expected.bounds, strict=True):
        assert bound.negative_log_p == pytest.approx(again.negative_log_p, rel=1e-5)
        assert bound.effective_samples == pytest.approx(again.effective_samples)
    assert [bound.num_samples for bound in split.bounds] == [1, 10, 12]
    assert split.counts is None and split.truth is None
    floor = floors.floor("multi_dsprites/tiny", "test_7", data_dir)
    assert split.floor.floor == split.floor.entropy == pytest.approx(floor.entropy)
    console = Console(file=io.StringIO(), width=200)
    report.print_tables(found, console)
    assert f"{split.bounds[2].negative_log_p.mean:.2f}" in console.file.getvalue()


def _data(data_dir):
    data = baseline_dsprites.get_config("tiny").data
    data.data_dir = data_dir
    return data


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("variant", base.VARIANTS)
def test_every_variant_builds(name, variant):
    """On the data of LAVAE's config, with its ε; d_VAE is 1024 but in tests."""
    theirs = name.removeprefix("baseline_")
    config, lavae = (
        cli.load_config(str(ROOT / f"experiments/configs/{file}.py:{variant}"))
        for file in (name, theirs)
    )
    model = build.build(config).model
    assert isinstance(model, lavae_jax.BaselineVAE)
    assert config.data == lavae.data
    assert model.image_shape == load.image_shape(config.data.name)
    assert model.epsilon == lavae.model.epsilon
    assert model.latent_dim == (128 if variant == "tiny" else 1024)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.kind", "lavae", "model.kind must be one of baseline: got 'lavae'"),
        ("model.norm", "layer", "model.norm must be one of batch, none: got layer"),
        ("model.upsampling", "cubic", "must be one of bilinear, shuffle: got cubic"),
        ("model.stem_stride", 3, "model.stem_stride must be 2, 4 or 8 .* got 3"),
        ("model.resample_size", 1, "model.resample_size must be at least 2: got 1"),
        ("model.latent_channels", 0, "latent_channels must be at least 1: got 0"),
        ("model.image_shape", (64, 60, 3), r"multiples of 8: got \(64, 60, 3\)"),
        ("model.epsilon", 0.5, r"model.epsilon must be in \(0, 0.5\): got 0.5"),
        ("optimizer.learning_rate", 0.0, "learning_rate must be positive: got 0.0"),
        ("beta.steps", 0, "beta.steps must be at least 1: got 0"),
        ("beta.final", float("nan"), "beta.final must be at least 0: got nan"),
    ],
)
def test_impossible_values_are_refused(field, value, message):
    """Naming the field, what is possible, and the value."""
    config = baseline_dsprites.get_config("laptop")
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(ValueError, match=message):
        build.build(config)


def test_what_is_lavaes_is_unknown():
    """LAVAE's settings are none of the baseline's: the command lists what there is."""
    status, said = run_here(
        train, f"--config={ROOT / CONFIG}", "--config.warmup.target=bumps"
    )
    assert status == 1 and "Traceback" not in said
    assert said.startswith(
        "error: --config.warmup.target: there is no such value in this config."
    )
    assert "beta.steps = 4" in said
