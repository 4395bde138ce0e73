"""Images of one's own that can't be trained on, or may be meant otherwise."""

import numpy as np
import pytest

from experiments import cli
from experiments.configs import custom
from experiments.own import data as own_data
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


_BAD = {
    "mixed sizes": (_mixed_sizes, r"z0.png is 64 pixels wide.* gave the size \(48, 80"),
    "grey levels": (
        lambda p: _write(p, images=np.full((40, *COLOUR), 77, np.uint8)),
        r"the value 77 at .*--config.data.threshold=T",
    ),
    "four channels": (
        lambda p: _write(p, images=np.zeros((40, 32, 32, 4))),
        "with 4 channels, but .* 1 .grey. or 3",
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
    found = own_data.survey(images)
    assert found.lit == pytest.approx((15 + 4 + 16) / 2400 / 2)
    np.testing.assert_array_equal(found.groups, [2, 0])
    assert sorted(zip(found.sides, found.pixels, strict=True))[1:] == [(4, 16), (7, 19)]


def test_neither_specks_nor_touching_objects_make_the_size():
    """The sprite size is that of nearly all lit pixels, odd, with a margin."""
    objects = [_canvas((5, 5, 9, 9), (20, 30, 9, 6)) for _ in range(40)]
    assert own_data.survey(objects).sprite_size == 11
    specks = [_canvas((5, 5, 9, 9), *((39, c, 1, 1) for c in (0, 4, 8, 12, 16)))] * 40
    assert own_data.survey(specks).sprite_size == 11
    touching = [*objects, _canvas((5, 5, 9, 9), (5, 14, 9, 9))]
    assert own_data.survey(touching).sprite_size == 11
    assert own_data.survey([_canvas((5, 5, 8, 8))]).sprite_size == 11
