"""What edits refuse."""

import jax
import numpy as np
import pytest

from lavae_jax import editing
from tests.scene_lists import SHAPE, make

SCENE = make([[((1, 2), [0.5, 1.0, 2.0])] * n for n in (2, 0, 4)])


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda: editing.move(SCENE, 2, (0, 0), SHAPE, only=0), ValueError,
         "slot 2: image 0 has the objects 0 to 1"),
        (lambda: editing.select(SCENE, [1, 1], only=0), ValueError,
         r"slots must differ from each other, got \[1, 1\]"),
        (lambda: editing.move(SCENE, 0, (0, 9), SHAPE, only=0), ValueError,
         r"rows 0 to 6 and columns 0 to 8, got \[0, 9\]"),
        (lambda: editing.restyle(SCENE, 0, 3, 0.5, only=0), ValueError,
         "dims must lie in 0 to 2, got 3"),
        (lambda: editing.restyle(SCENE, 0, 1, np.nan, only=0), ValueError,
         "values must be finite float32, got nan"),
        (lambda: editing.interpolate(SCENE, 0, 1, 1.5, only=0), ValueError,
         "weight must lie in 0 to 1, got 1.5"),
        (lambda: editing.remove(SCENE, 0, only=3), ValueError,
         "only must lie in 0 to 2, got 3"),
        (lambda: editing.remove(SCENE, [0.0, 1.0], only=[0, 2]), TypeError,
         "slot must hold integers, got float64"),
        (lambda: jax.jit(editing.remove)(SCENE, 0), TypeError,
         "scenes are edited outside jax transformations"),
        (lambda: editing.add(SCENE, (0, 0), [1, 2, 3], SHAPE), ValueError,
         "image 2 holds 4 objects already"),
    ],
)  # fmt: skip
def test_what_is_refused(edit, error, message):
    """An invalid edit is refused, with the valid range in the message."""
    with pytest.raises(error, match=message):
        edit()
