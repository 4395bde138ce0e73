"""Loading a model returns what was stored, or an error says why it can't be used."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict

import lavae_jax
from lavae_jax import pretrained, released, runs
from tests import golden, scene_checks, tiny_models, tiny_runs

# This model has batch statistics, which are not parameters.
MODEL_CONFIG = tiny_runs.CONFIG._replace(norm="batch", appearance_net="trunk")
RUN_CONFIG = {"seed": 3, "model": {**MODEL_CONFIG._asdict(), "epsilon_init": 0.1}}

_NUM_IMAGES = 50
_NUM_SAMPLES = 10


@pytest.fixture(scope="module")
def model():
    """Builds the model of the config of all tests."""
    return lavae_jax.build_model(MODEL_CONFIG)


@pytest.fixture(scope="module")
def variables(model):
    """Makes variables with random numbers."""
    return tiny_models.random_variables(model)


@pytest.fixture(scope="module")
def stored(model, variables, tmp_path_factory):
    """Makes a run with checkpoints after steps 4 and 16."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    half = jax.tree.map(lambda x: x / 2, variables)
    tiny_runs.save_run(workdir, ConfigDict(RUN_CONFIG), {4: half, 16: variables})
    return workdir


@pytest.fixture
def folder(variables, tmp_path):
    """Makes a released model's folder, which a test may damage."""
    released.write(tmp_path / "toy", _contents(pretrained.flatten(variables)))
    return tmp_path / "toy"


def _contents(tensors):
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    config = json.loads(json.dumps(RUN_CONFIG))
    return released.Released(tensors, config, {"step": 16}, "# Toy: λ\n")


def _assert_same(loaded, model, variables):
    """Asserts that models are equal, and variables bitwise equal and on a device."""
    assert loaded[0] == model
    jax.tree.map(np.testing.assert_array_equal, loaded[1], variables)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded[1]))


def test_the_newest_model_of_a_run(stored, model, variables):
    """Loading a run gives step 16, not step 4, which sorts after it as a word."""
    _assert_same(lavae_jax.load(stored), model, variables)
    assert runs.read(stored).step == 16


def test_a_released_model(folder, model, variables):
    """A released model is read as it was written."""
    _assert_same(pretrained.load_released(folder), model, variables)
    contents = released.read(folder)
    assert (contents.report, contents.card) == ({"step": 16}, "# Toy: λ\n")
    assert "params/location_net/Conv_0/kernel" in contents.tensors
    assert sum(name.startswith("batch_stats/") for name in contents.tensors) > 2


def test_models_are_loaded_by_name(folder, model, variables, monkeypatch):
    """Released models load by name; an unknown name lists the known ones."""
    monkeypatch.setattr(pretrained, "FOLDER", folder.parent)
    shutil.copytree(folder, folder.with_name("other"))
    _assert_same(lavae_jax.load_pretrained("other"), model, variables)
    # Without its checksums a folder is not a model: one may be just being written.
    shutil.copytree(folder, folder.with_name("unfinished"))
    (folder.with_name("unfinished") / released.CHECKSUMS).unlink()
    assert pretrained.names() == ["other", "toy"]
    for name in ("tyo", "../toy", "unfinished"):
        with pytest.raises(ValueError, match=rf"'{name}'.*: other, toy"):
            lavae_jax.load_pretrained(name)
    monkeypatch.setattr(pretrained, "FOLDER", folder.parent / "absent")
    with pytest.raises(ValueError, match="'toy'"):
        lavae_jax.load_pretrained("toy")


@pytest.mark.parametrize("name", [released.WEIGHTS, released.REPORT])
def test_changed_files_are_refused(folder, name):
    """The error for one changed bit has the file, both checksums and a remedy."""
    content = bytearray((folder / name).read_bytes())
    before = hashlib.sha256(content).hexdigest()
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    after = hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match=rf"toy/{name} .*{after}.*{before}"):
        pretrained.load_released(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params/prior_n_logits": None}, "params/prior_n_logits is missing"),
        ({"params/more": np.ones(2, np.float32)}, "params/more is unexpected"),
        (
            {"params/prior_n_logits": np.ones((2, 3), np.float32)},
            r"params/prior_n_logits is float32\[2, 3\], not float32\[4\]",
        ),
    ],
)
def test_tensors_of_another_model_are_refused(variables, tmp_path, change, message):
    """Tensors that are missing, in excess, or of another shape or type are named."""
    tensors = {
        name: value
        for name, value in (pretrained.flatten(variables) | change).items()
        if value is not None
    }
    released.write(tmp_path / "toy", _contents(tensors))
    with pytest.raises(ValueError, match=f"toy .*: {message}"):
        pretrained.load_released(tmp_path / "toy")


def test_runs_of_another_model_are_refused(stored, tmp_path):
    """A run whose config was changed after training is refused."""
    workdir = shutil.copytree(stored, tmp_path / "run")
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    config["model"].update(app_dim=5, max_objects=4)
    path.write_text(json.dumps(config))
    message = "checkpoints/16 "
    with pytest.raises(ValueError, match=message):
        lavae_jax.load(workdir)


def test_what_is_no_run_is_refused(tmp_path):
    """Folders without a config or checkpoint are refused."""
    with pytest.raises(FileNotFoundError, match="absent"):
        lavae_jax.load(tmp_path / "absent")
    config = json.dumps({**RUN_CONFIG, "checkpoint_every": 500})
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(FileNotFoundError, match="500 steps"):
        lavae_jax.load(tmp_path)


@pytest.mark.standard_promotion
@pytest.mark.parametrize("name", pretrained.names())
def test_released_models_give_the_recorded_figures(name):
    """Counts and positions are the same, all else within rounding errors.

    Processors round differently. `python -m tests.golden --check` compares bitwise.
    """
    found, expected = golden.condensed(golden.figures(name)), golden.recorded()[name]
    assert found.keys() == expected.keys()
    for field in expected.keys() - {"digest"}:
        wanted = np.array(expected[field])
        tolerance = {} if wanted.dtype.kind == "i" else {"rtol": 1e-4, "atol": 1e-3}
        compare = np.testing.assert_allclose if tolerance else np.testing.assert_equal
        compare(np.array(found[field]), wanted, err_msg=field, **tolerance)


@pytest.mark.standard_promotion
@pytest.mark.parametrize("name", pretrained.names())
def test_released_weights_keep_what_their_report_says(name):
    """Figures on the first test images are within the error of the reported ones."""
    contents = released.read(pretrained.FOLDER / name)
    (split,) = (x for x in contents.report["splits"] if x["name"] == "test")
    model, variables = lavae_jax.load_pretrained(name)
    data = contents.config["data"]["name"]
    images, n = scene_checks.first_scenes(data, "test", _NUM_IMAGES)

    if split["truth"] is not None:  # the baseline counts nothing
        scene = lavae_jax.infer(model, variables, images)
        num_wrong = int((np.asarray(scene.n) != n).sum())
        # Rounding may tip one image on another machine: one more counts as wrong.
        share = 1 - split["truth"]["count_accuracy"] + 1 / split["num_images"]
        assert scipy.stats.binom.sf(num_wrong - 1, _NUM_IMAGES, share) > 1e-3

    (bound,) = (x for x in split["bounds"] if x["num_samples"] == _NUM_SAMPLES)
    expected = bound["negative_log_p"]
    log_p = lavae_jax.log_likelihood_bound(
        model, variables, images, jax.random.key(0), _NUM_SAMPLES
    )
    deviation = expected["standard_error"] * np.sqrt(expected["num"])
    error = abs(-np.mean(log_p) - expected["mean"]) * np.sqrt(_NUM_IMAGES) / deviation
    assert error < 3
