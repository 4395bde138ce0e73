"""Images of one's own that can't be trained on, or may be meant otherwise."""

import re

import numpy as np
import pytest

from experiments import cli
from experiments.configs import custom
from experiments.own import survey as own_survey
from experiments.run import input_pipeline
from tests.own_scenes import save_pngs, squares

GREY, COLOUR = (48, 80, 1), (32, 32, 3)


def _config(path, variant="tiny", **data):
    config = custom.get_config(variant)
    config.data.update(path=str(path), **data)
    return config


def _write(path, **changes):
    images = squares(40, COLOUR)[0]
    np.savez(path, **{"images": images, **changes})
    return path


def _mixed_sizes(path):
    images, _ = squares(40, GREY)
    save_pngs(path, images)
    save_pngs(path, squares(2, (48, 64, 1))[0], "z")
    return path


def _mixed_channels(path):
    save_pngs(path, squares(40, (32, 32, 1))[0])
    save_pngs(path, squares(8, COLOUR)[0][5:], "z")
    return path


def _cut_off(path):
    save_pngs(path, squares(40, GREY)[0])
    file = path / "17.png"
    file.write_bytes(file.read_bytes()[:60])
    return path


def _empty(path):
    path.mkdir()
    return path


_NAN = np.where(np.arange(COLOUR[0])[:, None, None] == 3, np.nan, np.zeros(COLOUR))
_BAD = {
    "nothing there": (lambda path: path, "own.npz does not exist"),
    "no files": (_empty, "holds no .png file"),
    "mixed sizes": (_mixed_sizes, r"z0.png is 64 pixels wide.* gave the size \(48, 80"),
    "mixed channels": (
        _mixed_channels,
        r"z[012].png is in colour.*image_shape='\(32, 32",
    ),
    "cut off": (_cut_off, r"17.png cannot be read \(.*: it is damaged"),
    "no array": (lambda p: _write(p, images=np.zeros(3)), r"the shape \(3,\)"),
    "objects": (lambda p: _write(p, images=np.array([{}] * 40)), "type object"),
    "NaN": (lambda p: _write(p, images=np.stack([_NAN] * 40)), r"value nan at \(0, 3,"),
    "grey levels": (
        lambda p: _write(p, images=np.full((40, *COLOUR), 77, np.uint8)),
        r"the value 77 at .*--config.data.threshold=T",
    ),
    "four channels": (
        lambda p: _write(p, images=np.zeros((40, 32, 32, 4))),
        "with 4 channels, but .* 1 .grey. or 3",
    ),
    "too small": (
        lambda p: _write(p, images=np.zeros((40, 32, 4))),
        "32 pixels high and 4 wide",
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
    "other counts": (
        lambda p: _write(p, n=np.zeros(39, int)),
        r"n is int64\[39\], but 40 whole numbers",
    ),
    "negative counts": (lambda p: _write(p, n=np.full(40, -1)), "n holds -1"),
    "counts beyond reason": (
        lambda p: _write(p, n=np.full(40, 2**32 + 1)),
        "n holds 4294967297: no image has so many objects",
    ),
    "counts beyond the slots": (
        lambda p: _write(p, n=np.arange(40) % 13),
        r"15.0% of the images have more objects .* = 10, up to 12, .*max_objects=12\.",
    ),
    "counts as objects": (lambda p: _write(p, n=np.array([None] * 40)), "n is object"),
}


@pytest.mark.parametrize("case", _BAD)
def test_bad_images_are_refused_before_training(tmp_path, case):
    """The message names the file, what is wrong and what was expected."""
    make, message = _BAD[case]
    with pytest.raises(cli.UserError, match=message) as refusal:
        input_pipeline.prepare(_config(make(tmp_path / "own.npz")))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dict(path=""), "give --config.data.path, a folder of .png files or an .npz"),
        (dict(name="multi_dsprites"), "leave data.name=custom"),
        (dict(threshold=256), "data.threshold must be from 0 to 255: got 256"),
        (dict(threshold=200), "threshold is for uint8"),
        (dict(num_valid=0), "data.num_valid = 0 held out .at least 1."),
        (dict(num_valid=36), "40 images are too few for data.num_valid = 36"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, data, message):
    """Impossible values are refused with what is possible."""
    np.savez(tmp_path / "own.npz", squares(40, COLOUR)[0] > 0)
    config = _config(tmp_path / "own.npz")
    config.data.update(data)
    with pytest.raises(cli.UserError, match=message):
        input_pipeline.prepare(config)


def test_a_threshold_that_nothing_reaches(tmp_path):
    """The message tells black images from those that the threshold made so."""
    np.savez(tmp_path / "own.npz", squares(40, COLOUR)[0] // 255 * 90)
    with pytest.raises(cli.UserError, match=r"reaches data\.threshold = 91"):
        input_pipeline.prepare(_config(tmp_path / "own.npz", threshold=91))


def _canvas(*boxes, shape=(40, 60, 1)):
    """Makes one image with lit boxes (top, left, height, width)."""
    image = np.zeros(shape, np.uint8)
    for top, left, height, width in boxes:
        image[top : top + height, left : left + width] = 255
    return image


def test_what_images_show():
    """A survey counts groups by eight neighbours, and lit pixels and black images."""
    images = [
        _canvas((0, 0, 3, 5), (3, 5, 2, 2), (20, 20, 4, 4)),  # the first two touch
        _canvas(),
    ]
    found = own_survey.survey(images)
    assert found.lit == pytest.approx((15 + 4 + 16) / 2400 / 2)
    assert found.black == 0.5
    np.testing.assert_array_equal(found.groups, [2, 0])
    assert sorted(zip(found.sides, found.pixels, strict=True))[1:] == [(4, 16), (7, 19)]
    assert found.grey
    coloured = _canvas((1, 1, 3, 3), shape=(40, 60, 3))
    assert own_survey.survey([coloured]).grey
    coloured[2, 2, 1] = 0
    assert not own_survey.survey([coloured]).grey


def test_neither_specks_nor_touching_objects_make_the_size():
    """The sprite size is that of nearly all lit pixels, odd, with a margin."""
    objects = [_canvas((5, 5, 9, 9), (20, 30, 9, 6)) for _ in range(40)]
    assert own_survey.survey(objects).sprite_size == 11
    specks = [_canvas((5, 5, 9, 9), *((39, c, 1, 1) for c in (0, 4, 8, 12, 16)))] * 40
    assert own_survey.survey(specks).sprite_size == 11
    touching = [*objects, _canvas((5, 5, 9, 9), (5, 14, 9, 9))]
    assert own_survey.survey(touching).sprite_size == 11
    assert own_survey.survey([_canvas((5, 5, 8, 8))]).sprite_size == 11


def test_many_images_are_sampled_evenly():
    """Images from the first to the last are surveyed, however many there are."""
    images = [_canvas((0, 0, 1 + (i >= 9_000), 1)) for i in range(10_000)]
    found = own_survey.survey(images)
    assert len(found.groups) == 2_000
    assert np.sum(found.sides == 2) == 200


def _warnings(path, variant="laptop", **model):
    config = _config(path, variant)
    config.model.update(model)
    config.batch_size = 8
    remarks = input_pipeline.prepare(config).remarks
    assert remarks[0].startswith(f"{path}: images of ")
    assert all(line.startswith("warning: ") for line in remarks[1:])
    return list(remarks[1:])


def test_nothing_is_said_of_good_images(tmp_path):
    """A thousand scenes of small squares need no warning."""
    np.savez(tmp_path / "own.npz", squares(1_120, COLOUR)[0])
    assert not _warnings(tmp_path / "own.npz")


@pytest.mark.parametrize(
    ("shape", "side", "model", "message"),
    [
        (GREY, 9, dict(sprite_size=7), "100% .* larger than .* = 7, up to 9 px.*=11$"),
        (GREY, 7, dict(max_objects=2), "25.0% .* 2, up to 3: .*max_objects=3$"),
        (GREY, 29, {}, "sprites of model.sprite_size = 31 px cover most of an image"),
        (
            (96, 96, 1),
            25,
            dict(stem_stride=1),
            "sees 23 px .* = 27: set --config.model.stem_stride=2",
        ),
        ((48, 80, 3), 7, "white", r"grey: .*image_shape='\(48, 80, 1\)'"),
    ],
)
def test_what_may_be_amiss_is_said(tmp_path, shape, side, model, message):
    """Each warning has its numbers and the value to set."""
    most = 1 if side > 9 else 3
    images, _ = squares(80, shape, side, most)
    if model == "white":
        images, model = images.max(axis=-1, keepdims=True).repeat(3, axis=-1), {}
    np.savez(tmp_path / "own.npz", images)
    few, said = _warnings(tmp_path / "own.npz", **model)
    assert "72 images to train on are few" in few
    assert re.search(message, said.removesuffix("."))


def test_black_images(tmp_path):
    """Many black images give a warning."""
    images, _ = squares(80, GREY)
    images[3:] = 0
    np.savez(tmp_path / "own.npz", images)
    assert "98% of the images are black" in _warnings(tmp_path / "own.npz")[1]
