"""The figures of a report agree with direct computation, and the command writes it.

The model is a tiny one that has learned nothing; its parameters are far enough from
zero that it sees objects of all kinds where there are none.
"""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import lavae_jax
from datasets import floors, load
from experiments import evaluate
from experiments.measure import measure, report
from experiments.run import build
from lavae_jax import metrics, plotting, pretrained, segmentation
from tests import tiny_models, tiny_runs
from tests.commands import run_here

pytestmark = pytest.mark.standard_promotion

_NAME = "multi_dsprites/tiny"
_NUM_IMAGES = 23
_SETTINGS = measure.Settings(_NUM_IMAGES, num_samples=12, batch_size=10, seed=5)


@pytest.fixture(scope="module")
def sets(data_dir):
    """Reads the first scenes of both test splits."""
    data = ConfigDict(dict(name=_NAME, data_dir=data_dir, manual_dir=None))
    return list(measure.split_sets(data, None, _NUM_IMAGES))


@pytest.fixture(scope="module")
def variables():
    """Makes random parameters."""
    return tiny_models.random_variables(_model())


@pytest.fixture(scope="module")
def model(variables, sets):
    """Makes a model that counts from none to many objects."""
    return tiny_models.counting_some(_model(), variables, sets[0].images)


def _model():
    return tiny_models.tiny_model((64, 64, 3), max_objects=10)


@pytest.fixture(scope="module")
def written(config, model, variables, tmp_path_factory):
    """Evaluates both test splits; returns the report and the folder it wrote to."""
    out = tmp_path_factory.mktemp("evaluation")
    result = evaluate.evaluate(
        config, model, variables, step=7, settings=_SETTINGS, out=out
    )
    return result, out


def test_split_sets_hold_the_truth_of_the_data_set(data_dir, sets):
    """All test splits are read in order, with the fields of the examples."""
    names = [image_set.name for image_set in sets]
    assert names == ["test", "test_7", "test_close"]
    for image_set in sets:
        source = load.data_source(_NAME, image_set.name, data_dir)
        assert len(image_set.images) == len(image_set.truth.centres) == _NUM_IMAGES
        for index in (0, 1, _NUM_IMAGES - 1):
            example, truth = source[index], image_set.truth
            np.testing.assert_array_equal(image_set.images[index], example["image"])
            np.testing.assert_array_equal(truth.labels[index], example["segmentation"])
            np.testing.assert_array_equal(
                truth.centres[index], example["centre"][: example["n"]]
            )
            assert truth.n[index] == example["n"]


def test_inference_does_not_depend_on_the_batch(model, variables, sets):
    """Results in batches, the last one filled up, are those of one batch."""
    small = measure.infer(model, variables, sets[0], _SETTINGS)
    whole = measure.infer(
        model, variables, sets[0], _SETTINGS._replace(batch_size=1000)
    )
    for field in ("n", "yx", "active", "labels"):
        np.testing.assert_array_equal(
            getattr(small.scenes, field), getattr(whole.scenes, field)
        )
    assert small.log_weights.shape == (_NUM_IMAGES, 12)
    np.testing.assert_allclose(small.log_weights, whole.log_weights, rtol=1e-4)
    assert len(np.unique(small.scenes.n)) > 2 and small.scenes.labels.any()


def test_inference_equals_the_library_called_directly(model, variables, sets):
    """Scenes are the most likely ones; an image's weights follow from its own key."""
    image_set = sets[1]
    inferred = measure.infer(model, variables, image_set, _SETTINGS)
    scene = lavae_jax.infer(model, variables, image_set.images)
    for field in ("n", "yx", "active"):
        np.testing.assert_array_equal(
            getattr(inferred.scenes, field), getattr(scene, field)
        )
    # They are as many as in a batch above, whose program has been compiled.
    chosen = [0, 2, 2, *range(3, 10)]
    other = image_set._replace(images=image_set.images[chosen])
    again = measure.infer(model, variables, other, _SETTINGS)
    np.testing.assert_allclose(
        again.log_weights[[0, 2]], inferred.log_weights[[0, 2]], rtol=1e-4
    )
    assert not np.allclose(again.log_weights[1], again.log_weights[2], rtol=1e-4)


def _perfect(image_set, rng):
    """Makes what a model infers that is right about all but the order."""
    num_images, slots = len(image_set.images), 10
    yx = np.zeros((num_images, slots, 2), np.int32)
    labels = np.zeros_like(image_set.truth.labels, np.int32)
    for index, (n, centres) in enumerate(
        zip(image_set.truth.n, image_set.truth.centres, strict=True)
    ):
        order = rng.permutation(n)
        yx[index, :n] = np.floor(centres[order])
        for slot, true_slot in enumerate(order):
            labels[index][image_set.truth.labels[index] == true_slot + 1] = slot + 1
    active = np.arange(slots) < image_set.truth.n[:, None]
    log_weights = rng.normal(-30, 1, (num_images, 100))
    scenes = measure.Scenes(image_set.truth.n, yx, active, labels)
    return measure.Inferred(scenes, log_weights)


def test_comparison_of_perfect_scenes(sets):
    """Perfect scenes leave only the error of rounding to pixels."""
    log_p_n = np.log(np.array([0.1, 0.2, 0.3, 0.25, 0, 0, 0, 0.15, 0, 0, 0]) + 1e-9)
    for image_set in sets:
        inferred = _perfect(image_set, np.random.default_rng(1))
        truth = measure.compare(image_set, inferred, log_p_n).truth
        assert truth.count_accuracy == 1.0
        assert np.trace(truth.confusion) == truth.confusion.sum() == _NUM_IMAGES
        assert truth.location.mean < 0.75
        assert truth.location.num_missed == truth.location.num_spurious == 0
        segments = truth.segments
        assert segments.ari.mean == segments.fg_ari.mean == 1.0
        assert segments.recall == segments.precision == segments.apart_accuracy == 1.0
        assert segments.fg_ari.num == (image_set.truth.n >= 2).sum()
        assert segments.fg_ari_any_object.num == (image_set.truth.n >= 1).sum()
        assert truth.count_nats == pytest.approx(-log_p_n[image_set.truth.n].mean())
        by_colour = segmentation.count_components(image_set.images, by_colour=True)
        assert truth.components_by_colour_accuracy == pytest.approx(
            np.mean(by_colour == image_set.truth.n)
        )
        assert truth.components_accuracy <= truth.components_by_colour_accuracy


def test_comparison_states_bounds_as_costs(sets):
    """Bounds fall with K, and the distance is that of the last from the floor."""
    inferred = _perfect(sets[0], np.random.default_rng(2))
    split = measure.compare(sets[0], inferred, np.zeros(11))
    assert [bound.num_samples for bound in split.bounds] == [1, 10, 100]
    expected = metrics.mean_and_error(-inferred.log_weights.mean(axis=1))
    assert split.bounds[0].negative_log_p == pytest.approx(expected)
    costs = [bound.negative_log_p.mean for bound in split.bounds]
    assert costs[0] > costs[1] > costs[2] > 0
    assert 1 == split.bounds[0].effective_samples < split.bounds[2].effective_samples
    floor = floors.family_floor((0, 1, 2, 3), _object_entropy())
    assert split.floor.floor == pytest.approx(floor)
    assert split.floor.distance == pytest.approx(costs[2] - floor)


def _object_entropy():
    builder = load.BUILDERS["multi_dsprites"][0](config="full")
    return builder.appearance().entropy


# These tests hold the report and the command.


def test_report_agrees_with_its_parts(written, model, variables, sets):
    """A report holds what inference and comparison give with its settings."""
    result, _ = written
    log_p_n = measure.learned_log_p_n(model, variables)
    np.testing.assert_allclose(np.exp(log_p_n).sum(), 1.0, rtol=1e-5)
    for split, image_set in zip(result.splits, sets, strict=True):
        inferred = measure.infer(model, variables, image_set, _SETTINGS)
        expected = measure.compare(image_set, inferred, log_p_n)
        assert report.plain(split) == report.plain(expected)
        assert [bound.num_samples for bound in split.bounds] == [1, 10, 12]
    assert (result.step, result.seed, result.data_version) == (7, 5, "1.0.0")
    assert result.noise == pytest.approx(model.epsilon)
    assert result.versions["jax"] == jax.__version__


def test_written_files(written, config, tmp_path):
    """The folder has the report as JSON with every figure, and readable pictures.

    Every field of the report is read in its type; a file that is no report is named.
    """
    result, out = written
    content = json.loads((out / "report.json").read_text())
    assert content == report.plain(result)
    assert content["config"] == json.loads(config.to_json())
    assert len(list(out.glob("*.png"))) == 7
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    again = report.read(out / "report.json")
    assert report.plain(again) == content
    truth = again.splits[1].truth
    np.testing.assert_array_equal(truth.confusion, result.splits[1].truth.confusion)
    assert truth.location == result.splits[1].truth.location
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match=r"report\.json"):
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


def test_command_evaluates_the_latest_checkpoint(config, sets, tmp_path):
    """Own images get counts and bounds of the last checkpoint, without any truth."""
    model, workdir = build.build_model(config), tmp_path / "run"
    variables = tiny_models.random_variables(model, scale=0.2)
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
    scene = lavae_jax.infer(model, variables, sets[0].images[:8])
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
