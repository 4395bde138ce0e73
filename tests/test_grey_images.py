"""Images of many values are read, trained on with a background, and counted."""

import collections
import csv
import json

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import lavae_jax
from experiments import count, train
from experiments.configs import coloured, custom, custom_grey
from experiments.own import crops, fit
from experiments.own import data as own_data
from experiments.own import images as own_images
from experiments.run import limits
from lavae_jax import pretrained
from tests import tiny_runs
from tests.commands import run_here
from tests.own_scenes import squares

pytestmark = pytest.mark.standard_promotion


def _scenes(dtype=np.uint16, black=200, white=3_000):
    """Makes 40 grey scenes of 24×32 pixels before a background, and their numbers."""
    images, n = squares(40, (24, 32, 1), most=2)
    level = 0.2 + 0.3 * np.linspace(0, 1, 32)[None, None, :, None]
    shares = np.where(images > 0, 0.9, level)
    shares[0, 0, 0], shares[0, 0, 1] = 0, 1
    return (black + (white - black) * shares).astype(dtype), n


def _config(path, **data):
    config = custom_grey.get_config("tiny")
    config.data.update(path=str(path), **data)
    config.model.update(sprite_size=9, max_objects=3, background_waves=2)
    return config


@pytest.mark.parametrize("order", ["<u2", ">u2", "<f4", ">f8"])
def test_values_are_scaled(tmp_path, order):
    """The least value becomes 0 and the largest 255, in any number type."""
    images, n = _scenes()
    np.savez(tmp_path / "own.npz", images=images.astype(order), n=n)
    config = _config(tmp_path / "own.npz")
    own = own_data.read(config)
    expected = np.rint((images - 200.0) / 2_800 * 255)
    np.testing.assert_array_equal(own.images, expected)
    fitted, remarks = fit.fit(config, own)
    assert fitted.data.levels == (200, 3000)
    assert "pixels from 200 to 3000" in remarks[0]
    # What was found is kept: other images of the run are scaled alike.
    np.savez(tmp_path / "dark.npz", images=images.astype(order)[1:] // 2)
    values = own_data.values_of(fitted)
    dark = own_images.load_images(tmp_path / "dark.npz", (24, 32, 1), values)
    assert dark.max() < 130


def test_8_bit_values_stay(tmp_path):
    """8-bit pixels keep their values, so that nats are those of other models."""
    images, _ = _scenes(np.uint8, 10, 60)
    np.save(tmp_path / "own.npy", images)
    np.testing.assert_array_equal(
        own_data.read(_config(tmp_path / "own.npy")).images, images
    )
    own = own_data.read(_config(tmp_path / "own.npy", levels=(10.0, 60.0)))
    assert own.images.min() == 0 and own.images.max() == 255


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        (lambda a: a * 0 + 7, {}, "from 7 to 7, but at least two different"),
        (lambda a: np.where(a > 2_000, np.nan, a), {}, "no numbers"),
        (lambda a: a, {"levels": (5.0, 5.0)}, "data.levels must be two numbers"),
        (lambda a: a * np.inf, {}, "from inf to inf, but"),
    ],
)
def test_what_has_no_levels_is_refused(tmp_path, change, data, message):
    """The message says what was found and what was expected."""
    images, _ = _scenes(np.float32)
    np.savez(tmp_path / "own.npz", images=change(images))
    with pytest.raises(ValueError, match=message):
        own_data.read(_config(tmp_path / "own.npz", **data))


def test_the_size_of_objects_must_be_given(tmp_path):
    """No rule on pixels says how large objects are: the user does."""
    images, n = _scenes()
    np.savez(tmp_path / "own.npz", images=images, n=n)
    config = _config(tmp_path / "own.npz")
    own = own_data.read(config)
    with config.unlocked():
        config.model.sprite_size = None
    with pytest.raises(ValueError, match="set it to an odd number of pixels"):
        fit.fit(config, own)


def test_what_can_not_be_superposed():
    """Where no opacity says which pixels objects cover, no scene can be superposed."""
    config = coloured.get_config()
    config.elbo.superpose = 0.5
    limits.check(config)
    config.model.compositing = "sum"
    with pytest.raises(ValueError, match=r"superpose_appearance need"):
        limits.check(config)


def test_training_and_counting(tmp_path):
    """A run on own images of 16 bits goes through all stages, and counts others.

    Larger images are scaled as in training, and objects lie inside them.
    """
    images, n = _scenes()
    np.savez(tmp_path / "own.npz", images=images, n=n)
    arguments = [
        "--config=experiments/configs/custom_grey.py:tiny",
        f"--config.data.path={tmp_path / 'own.npz'}",
        "--config.model.sprite_size=9",
        "--config.model.max_objects=3",
        "--config.model.count_threshold=0.001",
        "--config.model.sigma=0.0",  # it is learned
        f"--workdir={tmp_path / 'run'}",
        "--nodistributed",
    ]
    status, said = run_here(train, *arguments)
    assert status == 0, said
    (row,) = [r for r in tiny_runs.rows(tmp_path / "run", "held_out") if r["step"] == 6]
    terms = ("kl_app", "kl_loc", "kl_n", "kl_background")
    expected = row["log_px"] - sum(row[name] for name in terms)
    assert row["elbo"] == pytest.approx(expected, rel=1e-4)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["levels"] == [200, 3000]
    model, variables = pretrained.load(tmp_path / "run")
    assert variables["params"]["sigma_shift"] != 0

    large = np.pad(images[:2, ..., 0], ((0, 0), (3, 40), (5, 60)), mode="edge")
    np.save(tmp_path / "large.npy", large)
    arguments = [f"--images={tmp_path / 'large.npy'}", f"--model={tmp_path / 'run'}"]
    arguments += ["--least_evidence=-inf"]
    wrong = run_here(count, *arguments, "--levels=7,7", f"--out={tmp_path / 'no'}")
    assert wrong[0] == 1 and "--levels must be two numbers" in wrong[1]
    status, said = run_here(count, *arguments, f"--out={tmp_path / 'counts'}")
    assert status == 0, said
    with (tmp_path / "counts" / "objects.csv").open() as file:
        objects = list(csv.DictReader(file))
    scaled = np.rint((large - 200.0) / 2_800 * 255).clip(0, 255).astype(np.uint8)
    found = lavae_jax.find_objects(model, variables, list(scaled[..., None]))
    assert len(objects) == sum(one.n for one in found) > 0
    assert all(0 <= float(row["row"]) < large.shape[1] for row in objects)


def test_crops_of_large_images(tmp_path):
    """Crops are uniform over all places of all images, turned, and the same again."""
    rng = np.random.default_rng(0)
    large = {"a": (40, 70), "b": (33, 33)}
    for name, size in large.items():
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    images = {name: np.asarray(Image.open(tmp_path / f"{name}.png")) for name in large}
    how, values = crops.Crops(32, 3_000), own_images.Values(levels=(0, 255))
    found = crops.load(tmp_path, how, None, values)
    np.testing.assert_array_equal(found, crops.load(tmp_path, how, None, values))
    places = {
        image[row : row + 32, column : column + 32].tobytes(): (name, row, column)
        for name, image in images.items()
        for row in range(image.shape[0] - 31)
        for column in range(image.shape[1] - 31)
    }
    counts = collections.Counter(places[crop.tobytes()] for crop in found)
    number = [counts[place] for place in places.values()]
    assert len(number) == 9 * 39 + 4
    assert stats.chisquare(number).pvalue > 1e-3
    turned = crops.load(tmp_path, how._replace(turned=True), 1, values)
    straight = sum(crop.tobytes() in places for crop in turned)
    assert stats.binomtest(straight, len(turned), 1 / 8).pvalue > 1e-3
    whole = {np.sort(crop.ravel()).tobytes() for crop in found}
    assert len(whole & {np.sort(crop.ravel()).tobytes() for crop in turned}) > 300
    with pytest.raises(ValueError, match=r"b\.png is 33 x 33 pixels, smaller"):
        crops.load(tmp_path, crops.Crops(34, 5), 1, values)


def test_crops_that_vary(tmp_path):
    """Crops that vary are turned, scaled and brightened around uniform centres."""
    side, rows = 41, np.arange(180)
    flat = np.broadcast_to(np.float32(60), (180, 180))
    image = np.stack([flat, *np.meshgrid(rows, rows, indexing="ij")], axis=-1)
    np.savez(tmp_path / "one.npz", images=image[None].astype(np.uint8))
    how, values = (
        crops.Crops(side, 2_000, varied=True),
        own_images.Values(levels=(0, 255)),
    )
    found = crops.load(tmp_path / "one.npz", how, 3, values).astype(np.float64)
    brightness = found[..., 0].mean(axis=(1, 2)) / 60
    # Two channels hold the place in the image that a pixel of a crop comes from.
    place = found[..., 1:] / brightness[:, None, None, None]
    middle = place[:, side // 2, side // 2]
    inside = (np.abs(middle - 89.5) < 50).all(axis=1)
    place, middle = place[inside], middle[inside]
    down, right = (np.diff(place, axis=axis).mean(axis=(1, 2)) for axis in (1, 2))
    zoom = 1 / np.hypot(*down.T)
    np.testing.assert_allclose(zoom, 1 / np.hypot(*right.T), atol=0.04)
    np.testing.assert_allclose((down * right).sum(axis=1), 0, atol=0.04)
    angle = np.arctan2(down[:, 1], down[:, 0])
    for sample, low, high in (
        (np.log(brightness), -np.log(1.4), np.log(1.4)),
        (np.log(zoom), -np.log(1.15), np.log(1.15)),
        (angle, -np.pi, np.pi),
        (middle[:, 0], 39.5, 139.5),
        (middle[:, 1], 39.5, 139.5),
    ):
        law = stats.uniform(low, high - low)
        assert stats.kstest(sample, law.cdf).pvalue > 1e-3


def test_a_config_of_crops(tmp_path):
    """The model gets the size of the crops, and held-out crops have no truth."""
    images, n = _scenes()
    np.savez(tmp_path / "own.npz", images=images, n=n)
    config = _config(tmp_path / "own.npz", crop=16, num_crops=50)
    fitted, remarks = fit.fit(config, own_data.read(config))
    assert any("held-out crops" in remark for remark in remarks)
    assert fitted.model.image_shape == (16, 16, 1)
    train, held_out = own_data.split(fitted, own_data.read(fitted))
    assert (len(train.images), len(held_out.images)) == (45, 5)
    assert held_out.n is None
    config.model.image_shape = (24, 32, 1)
    with pytest.raises(ValueError, match="crops are 16 x 16"):
        own_data.read(config)
    binary = custom.get_config("tiny")
    binary.data.update(path=config.data.path, crop=16, varied=True, threshold=128)
    with pytest.raises(ValueError, match=r"data\.varied interpolates"):
        own_data.read(binary)
    for idle in ("turned", "varied"):
        whole = _config(tmp_path / "own.npz", **{idle: True})
        with pytest.raises(ValueError, match="crop too"):
            own_data.read(whole)


def test_runs_remember_images_of_8_bits(tmp_path):
    """A run on 8-bit images refuses others, whose black and white it can't know."""
    eight = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 1)).astype(np.uint8)
    other = eight.astype(np.float32) / 255
    for images, is_8_bit in ((eight, True), (other, False)):
        np.save(tmp_path / "own.npy", images)
        config = custom_grey.get_config("tiny")
        config.data.path = str(tmp_path / "own.npy")
        config.model.sprite_size = 9
        fitted, _ = fit.fit(config, own_data.read(config))
        values = own_data.values_of(fitted)
        assert fitted.data.only_8_bit == values.only_8_bit == is_8_bit
        assert own_data.read(fitted).images.shape == (40, 32, 32, 1)
        if is_8_bit:
            with pytest.raises(ValueError, match=r"float32.*8-bit ones"):
                values.convert("a.tif", other[0])


@pytest.mark.parametrize(
    ("levels", "high", "expected"),
    [
        (None, 0, "nothing to learn"),
        ((1000, 2000), 255, "nothing to learn"),
        ((0, 3000), 99, "at 0.0% to 3.1% of the way"),
        (None, 5, "at 0.0% to 2.0% of the way"),
    ],
)
def test_little_contrast_is_reported(tmp_path, levels, high, expected):
    """Images of one value are refused, and a warning names a small range."""
    images = np.zeros((40, 32, 32, 1), np.uint8)
    images[:, 8:16, 8:16] = high
    np.save(tmp_path / "own.npy", images)
    config = custom_grey.get_config("tiny")
    config.data.path, config.model.sprite_size = str(tmp_path / "own.npy"), 9
    if levels is not None:
        config.data.levels = levels
    own = own_data.read(config)
    if expected == "nothing to learn":
        with pytest.raises(ValueError, match=expected):
            fit.fit(config, own)
    else:
        assert any(expected in remark for remark in fit.fit(config, own)[1])
