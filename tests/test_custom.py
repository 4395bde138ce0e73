"""One's own images are trained on, from their files to a model that sees them."""

import json
import shutil

import jax
import numpy as np
import pytest

import lavae_jax
from experiments import cli, evaluate
from experiments.configs import custom
from experiments.measure import measure, report
from experiments.own import data as own_data
from experiments.run import loop
from experiments.run import workdir as run_workdir
from lavae_jax import pretrained
from tests import tiny_runs
from tests.own_scenes import save_pngs, squares

pytestmark = pytest.mark.standard_promotion

_SETTINGS = measure.Settings(num_samples=2, batch_size=4)


def _config(path):
    """Makes a config of one step, of the auxiliary VAE: its program is the smallest."""
    config = custom.get_config("tiny")
    config.data.path = str(path)
    config.model.objects_per_image = 10.0
    config.update(num_steps=1, log_every=1)
    config.warmup.update(auxiliary_steps=1, guided_steps=0)
    config.tighten.steps = 0
    return config


def _train(path, workdir):
    result = loop.train_and_evaluate(_config(path), workdir, jax.devices()[:1])
    (row,) = tiny_runs.rows(workdir, "held_out")
    return result, row


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Trains on a folder of 40 grey pictures of 48×80; returns it and the results."""
    folder = tmp_path_factory.mktemp("grey")
    save_pngs(folder / "own", squares(40, (48, 80, 1))[0])
    return folder, *_train(folder / "own", folder / "run")


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """Trains likewise on an archive of 40 colour images of 32×32 with their counts."""
    folder = tmp_path_factory.mktemp("colour")
    images, n = squares(40, (32, 32, 3))
    np.savez(folder / "own.npz", images=images, n=n)
    return folder, *_train(folder / "own.npz", folder / "run")


def _check_run(folder, result, row):
    """Checks the last figures and the picture of a run."""
    assert row["elbo"] == result.held_out.elbo
    kl = row["kl_app"] + row["kl_loc"] + row["kl_n"]
    assert row["elbo"] == pytest.approx(row["log_px"] - kl, rel=1e-5)
    assert (folder / "run" / "pictures" / "step_00000001.png").stat().st_size


def _held_out(workdir):
    """Returns which of a run's 40 images are held out, [4]."""
    return own_data.held_out_indices(run_workdir.read_config(workdir), 40)


def test_an_archive_of_colour_images_with_counts(colour):
    """The counts that come with the images are compared with the inferred ones."""
    folder, result, row = colour
    _check_run(folder, result, row)
    held_out = _held_out(folder / "run")
    n = squares(40, (32, 32, 3))[1][held_out]
    model, variables = lavae_jax.load(folder / "run")
    with np.load(folder / "own.npz") as archive:
        scene = lavae_jax.infer(model, variables, archive["images"][held_out])
    expected = np.mean(scene.n == n)
    assert row["count_accuracy"] == pytest.approx(expected)


def test_a_folder_of_grey_pictures(grey, tmp_path):
    """Without true counts, ELBO and bound of the images held out are measured.

    The model is loaded from a copy of the run without the images, which evaluation
    needs.
    """
    folder, result, row = grey
    _check_run(folder, result, row)
    assert result.held_out.count_accuracy is None
    (split,) = _evaluate(folder).splits
    assert (split.name, split.num_images, split.truth) == ("held_out", 4, None)
    assert np.isfinite(split.bounds[-1].negative_log_p.mean)
    shutil.copytree(folder / "run", tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    stored["data"]["path"] = "nowhere"
    (tmp_path / "run" / "config.json").write_text(json.dumps(stored))
    model, variables = lavae_jax.load(tmp_path / "run")
    images = squares(2, (48, 80, 1))[0]
    assert lavae_jax.reconstruct(model, variables, images).shape == images.shape
    with pytest.raises(cli.UserError, match="nowhere"):
        _evaluate(tmp_path)


def _evaluate(folder, **arguments):
    model, run = pretrained.read_run(folder / "run")
    return evaluate.evaluate(
        run_workdir.from_json(run.config),
        model,
        run.variables,
        step=run.step,
        settings=_SETTINGS,
        **arguments,
    )


def test_known_counts_are_evaluated(colour, tmp_path):
    """Counts that come with the images are compared, and nothing else is made up."""
    folder, *_ = colour
    result = _evaluate(folder, out=tmp_path)
    (split,) = report.read(tmp_path / "report.json").splits
    assert report.plain(split) == report.plain(result.splits[0])
    n = squares(40, (32, 32, 3))[1][_held_out(folder / "run")]
    numbers = np.bincount(n, minlength=4)
    assert split.truth.confusion.sum(axis=1)[:4].tolist() == numbers.tolist()
    assert split.truth.location is None and split.truth.segments is None
    assert split.truth.components_accuracy == 1.0


def test_a_run_goes_on_with_its_own_images_alone(colour, tmp_path, capsys):
    """A run goes on with the same images at another path, and refuses others."""
    folder, *_ = colour
    path = shutil.copy(folder / "own.npz", tmp_path / "moved.npz")
    loop.train_and_evaluate(_config(path), folder / "run", jax.devices()[:1])
    assert "has made its 1 steps" in capsys.readouterr().out
    with np.load(path) as archive:
        np.savez(path, images=archive["images"][::-1], n=archive["n"][::-1])
    with pytest.raises(cli.UserError, match=r"data\.fingerprint"):
        loop.train_and_evaluate(_config(path), folder / "run", jax.devices()[:1])
