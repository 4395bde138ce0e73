"""The baseline from its config to a trained model and its report, by the commands."""

import json
import pathlib

import jax
import pytest

import lavae_jax
from datasets import floors
from experiments import cli, evaluate
from experiments.configs import baseline
from experiments.measure import measure, report
from experiments.run import build, loop
from lavae_jax.training.parallel import Devices
from tests.joined_processes import finished

pytestmark = pytest.mark.standard_promotion

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "experiments/configs/baseline.py:dsprites:tiny"
_SETTINGS = measure.Settings(num_images=5, num_samples=12)


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


@pytest.fixture(scope="module")
def measured(config, tmp_path_factory):
    """Makes a run in bfloat16 and its report; gives its workdir."""
    config = config.copy_and_resolve_references()
    config.update(num_steps=2, precision="bfloat16")
    workdir = tmp_path_factory.mktemp("bfloat16") / "run"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        loop.train_and_evaluate(config, workdir, jax.devices()[:1])
        model, variables = lavae_jax.load(workdir)
        evaluate.evaluate(
            config,
            model,
            variables,
            settings=_SETTINGS,
            out=workdir / "evaluation",
        )
    return workdir


def test_training_in_bfloat16(measured, unbroken):
    """Close to float32, but not the same; what is stored, and measured, is float32."""
    elbo, same = (_rows(place, "train")[0]["elbo"] for place in (measured, unbroken))
    assert elbo == pytest.approx(same, rel=0.01) and elbo != same
    _, variables = lavae_jax.load(measured)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


def test_the_report(measured, config):
    """The report has the library's bounds, and null for what needs objects."""
    found = report.read(measured / "evaluation" / "report.json")
    model, variables = lavae_jax.load(measured)
    (image_set,) = measure.split_sets(config.data, ["test_7"], 5)
    inferred = measure.infer(model, variables, image_set, _SETTINGS)
    assert inferred.scenes is None
    split = found.splits[1]
    expected = measure.compare(image_set, inferred, None)
    for bound, again in zip(split.bounds, expected.bounds, strict=True):
        assert bound.negative_log_p == pytest.approx(again.negative_log_p, rel=1e-5)
        assert bound.effective_samples == pytest.approx(again.effective_samples)
    assert [bound.num_samples for bound in split.bounds] == [1, 10, 12]
    assert split.counts is None and split.truth is None
    floor = floors.floor("multi_dsprites/tiny", "test_7", config.data.data_dir)
    assert split.floor.floor == split.floor.entropy == pytest.approx(floor.entropy)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.kind", "lavae", "model.kind must be one of baseline: got 'lavae'"),
        ("model.stem_stride", 3, "model.stem_stride must be 2, 4 or 8 .* got 3"),
        ("model.image_shape", (64, 60, 3), r"multiples of 8: got \(64, 60, 3\)"),
        ("beta.final", float("nan"), "beta.final must be at least 0: got nan"),
    ],
)
def test_impossible_values_are_refused(field, value, message):
    """Naming the field, what is possible, and the value."""
    config = baseline.get_config("dsprites:laptop")
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(ValueError, match=message):
        build.build(config)
