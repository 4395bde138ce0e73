"""A user's own images are read and checked, and get a config that fits them."""

import numpy as np
import pytest

from datasets import scenes
from datasets.multi_dsprites import multi_dsprites_dataset_builder as dsprites_builder
from experiments import cli
from experiments.configs import base, custom, dsprites
from experiments.own import data as own_data
from experiments.own import fit, survey
from experiments.own import images as own_images
from experiments.run import build, input_pipeline
from tests.own_scenes import save_pngs, squares

GREY, COLOUR = (48, 80, 1), (32, 32, 3)


def _config(path, variant="tiny", **data):
    config = custom.get_config(variant)
    config.data.update(path=str(path), **data)
    return config


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Makes 40 colour scenes of 32×32 with their counts."""
    images, n = squares(40, COLOUR)
    path = tmp_path_factory.mktemp("archive") / "own.npz"
    np.savez(path, images=images, n=n)
    return path


def _fingerprint(path):
    return own_images.fingerprint(own_data.read(_config(path)).images)


def test_the_fingerprint_is_that_of_the_images(tmp_path):
    """The fingerprint changes with pixels, order and number, not with the storage."""
    images, _ = squares(12, GREY)
    np.savez(tmp_path / "one.npz", images[..., 0] > 0)
    np.savez(tmp_path / "two.npz", images)
    paths = [tmp_path / "one.npz", tmp_path / "two.npz"]
    paths.append(save_pngs(tmp_path / "three", images))
    same = {_fingerprint(path) for path in paths}
    assert len(same) == 1
    pixel = images.copy()
    pixel[5, 20, 30] ^= 255
    for index, other in enumerate((pixel, images[::-1], images[:-1])):
        np.savez(tmp_path / f"{index}.npz", other)
        same.add(_fingerprint(tmp_path / f"{index}.npz"))
    assert len(same) == 4


def test_grey_levels_are_binarised_where_asked(tmp_path):
    """A value is lit from the threshold on, in files and arrays, and for `evaluate`."""
    levels = np.random.default_rng(0).integers(0, 256, (5, *COLOUR), np.uint8)
    levels[0, 0, 0] = (99, 100, 255)
    np.savez(tmp_path / "own.npz", levels)
    for path in (tmp_path / "own.npz", save_pngs(tmp_path / "folder", levels)):
        own = own_data.read(_config(path, threshold=100))
        np.testing.assert_array_equal(own.images > 0, levels >= 100)
        seen = own_images.load_images(path, COLOUR, own_images.Values(100))
        np.testing.assert_array_equal(seen, own.images)


def _fitted(path, variant="tiny", **data):
    config = _config(path, variant, **data)
    return fit.fit(config, own_data.read(config))[0]


@pytest.fixture(scope="module")
def paper_scenes(tmp_path_factory):
    """Makes an archive of 300 scenes of multi-dSprites."""
    split = scenes.Split(num_examples=300, counts=(0, 1, 2, 3), stream=0)
    images = [one["image"] for one in dsprites_builder.make_scenes(split, range(300))]
    path = tmp_path_factory.mktemp("paper") / "own.npz"
    np.savez_compressed(path, images=images)
    return path


@pytest.mark.parametrize("variant", base.VARIANTS)
def test_the_papers_images_give_the_papers_config(paper_scenes, variant):
    """Scenes of multi-dSprites give the values of the multi-dSprites config."""
    ours, theirs = _fitted(paper_scenes, variant), dsprites.get_config(variant)
    expected = 1.5 * (1 + theirs.elbo.superpose)
    assert ours.model.objects_per_image == pytest.approx(expected, abs=0.4)
    ours.model.objects_per_image = theirs.model.objects_per_image
    for section in ("model", "optimizer", "warmup"):
        assert ours[section].to_dict() == theirs[section].to_dict()
    assert (ours.model.gamma, ours.model.count_threshold) == (4.0, 16.0)


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((96, 96, 1), 40, dict(sprite_size=43, glimpse_size=43, exclusion_radius=9)),
        ((48, 80, 1), 7, dict(sprite_size=9, glimpse_size=9, exclusion_radius=1)),
    ],
)
def test_other_sizes_give_other_lengths(tmp_path, shape, side, expected):
    """Sprite size and lengths follow the objects; γ follows the log of the sites."""
    images, _ = squares(60, shape, side, most=2)
    np.savez(tmp_path / "own.npz", images)
    config = _config(tmp_path / "own.npz", "laptop")
    config.batch_size = 8
    config, _ = fit.fit(config, own_data.read(config))
    model = config.model
    assert {name: model[name] for name in expected} == expected
    assert config.warmup.object_size == expected["sprite_size"] - 2
    assert model.gamma == pytest.approx(4 * np.log(np.prod(shape)) / np.log(4096))
    assert model.count_threshold == 4 * model.gamma
    assert build.build(config).model.image_shape == shape


def test_other_images_under_the_same_path_are_noticed(archive, tmp_path):
    """A run's config accepts its own images only, wherever they lie."""
    images, _ = squares(40, COLOUR)
    config = _fitted(archive)
    np.savez(tmp_path / "moved.npz", images)
    config.data.path = str(tmp_path / "moved.npz")
    assert len(own_data.read(config).images) == 40
    np.savez(tmp_path / "moved.npz", images[::-1])
    with pytest.raises(ValueError, match=r"moved\.npz"):
        own_data.read(config)


# These images can't be trained on, or may be meant otherwise.


def _write(path, **changes):
    images = squares(40, COLOUR)[0]
    np.savez(path, **{"images": images, **changes})
    return path


def _mixed_sizes(path):
    images, _ = squares(40, GREY)
    save_pngs(path, images)
    save_pngs(path, squares(2, (48, 64, 1))[0], "z")
    return path


_BAD = {
    "mixed sizes": (_mixed_sizes, r"z0.png is 48 .* and 64 wide, but 48 x 80 .* as 0"),
    "grey levels": (
        lambda p: _write(p, images=np.full((40, *COLOUR), 77, np.uint8)),
        "the value 77 at .*--config.data.threshold",
    ),
    "four channels": (
        lambda p: _write(p, images=np.zeros((40, 32, 32, 4))),
        r"\(40, 32, 32, 4\), but .* expected",
    ),
    "black": (
        lambda p: _write(p, images=np.zeros((40, *COLOUR))),
        "all 40 images looked at are black",
    ),
    "inverted": (
        lambda p: _write(p, images=255 - squares(40, (32, 32, 1))[0]),
        "[89][0-9]% of the pixels are lit.*inverted",
    ),
    "too few": (
        lambda p: _write(p, images=squares(8, COLOUR)[0]),
        "8 images are too few for data.num_valid = 1 .* batch_size of 8",
    ),
    "counts beyond the slots": (
        lambda p: _write(p, n=np.arange(40) % 13),
        r"15.0% of the images have more objects .* = 10, up to 12, .*max_objects=12\.",
    ),
}


@pytest.mark.parametrize("case", _BAD)
def test_bad_images_are_refused_before_training(tmp_path, case):
    """The message names the file, what is wrong and what was expected."""
    make, message = _BAD[case]
    with pytest.raises(cli.UserError, match=message) as refusal:
        input_pipeline.prepare(_config(make(tmp_path / "own.npz")))
    assert "\n" not in str(refusal.value)


def _canvas(*boxes, shape=(40, 60, 1)):
    """Makes one image with lit boxes (top, left, height, width)."""
    image = np.zeros(shape, np.uint8)
    for top, left, height, width in boxes:
        image[top : top + height, left : left + width] = 255
    return image


def test_what_images_show():
    """A survey counts groups by eight neighbours, and lit pixels."""
    images = [
        _canvas((0, 0, 3, 5), (3, 5, 2, 2), (20, 20, 4, 4)),  # the first two touch
        _canvas(),
    ]
    found = survey.survey_images(images)
    assert found.lit == pytest.approx((15 + 4 + 16) / 2400 / 2)
    np.testing.assert_array_equal(found.groups, [2, 0])
    assert sorted(zip(found.sides, found.pixels, strict=True))[1:] == [(4, 16), (7, 19)]


def test_neither_specks_nor_touching_objects_make_the_size():
    """The sprite size is odd, has a margin, and fits nearly all lit pixels."""
    objects = [_canvas((5, 5, 9, 9), (20, 30, 9, 6)) for _ in range(40)]
    assert survey.survey_images(objects).sprite_size == 11
    specks = [_canvas((5, 5, 9, 9), *((39, c, 1, 1) for c in (0, 4, 8, 12, 16)))] * 40
    assert survey.survey_images(specks).sprite_size == 11
    touching = [*objects, _canvas((5, 5, 9, 9), (5, 14, 9, 9))]
    assert survey.survey_images(touching).sprite_size == 11
    assert survey.survey_images([_canvas((5, 5, 8, 8))]).sprite_size == 11
