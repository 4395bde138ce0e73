"""The baseline from its config to a trained model and its report, by the commands."""

import jax
import pytest

import lavae_jax
from datasets import floors
from experiments import cli, evaluate
from experiments.measure import measure, report
from experiments.run import build, loop
from lavae_jax.training.parallel import Devices
from tests import tiny_runs
from tests.commands import ROOT
from tests.joined_processes import finished

pytestmark = pytest.mark.standard_promotion

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
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        loop.run(build.build(config), config, workdir, Devices(jax.devices()[:1]))
    return workdir


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
        both = (tiny_runs.rows(folder, part) for folder in (tmp_path / "run", unbroken))
        for row, same in zip(*both, strict=True):
            assert row == pytest.approx(same, rel=1e-4)
    for folder in ("checkpoints", "pictures"):
        names = [
            {p.name for p in (d / folder).iterdir()}
            for d in (tmp_path / "run", unbroken)
        ]
        assert names[0] == names[1]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_the_report(unbroken, config, tmp_path):
    """The report has the library's bounds, and null for what needs objects."""
    model, variables = lavae_jax.load(unbroken)
    evaluate.evaluate(config, model, variables, settings=_SETTINGS, out=tmp_path)
    found = report.read(tmp_path / "report.json")
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
