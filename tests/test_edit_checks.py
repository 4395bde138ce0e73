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
        (lambda: editing.remove(SCENE, -1, only=2), ValueError,
         "slot -1: image 2 has the objects 0 to 3"),
        (lambda: editing.remove(SCENE, 0), ValueError,
         "slot 0: image 1 has no objects"),
        (lambda: editing.swap(SCENE, 0, 3, only=[2, 0]), ValueError,
         "other 3: image 0 has the objects 0 to 1"),
        (lambda: editing.interpolate(SCENE, 0, 2**32, 0.5, only=0), ValueError,
         "toward 4294967296: image 0 has the objects 0 to 1"),
        (lambda: editing.select(SCENE, [1, 2], only=[0, 2]), ValueError,
         "slots must lie in 0 to 1, got 2"),
        (lambda: editing.select(SCENE, [0]), ValueError,
         "slots must be empty, there is none, got 0"),
        (lambda: editing.select(SCENE, [1, 1], only=0), ValueError,
         r"slots must differ from each other, got \[1, 1\]"),
        (lambda: editing.move(SCENE, 0, (0, 9), SHAPE, only=0), ValueError,
         r"rows 0 to 6 and columns 0 to 8, got \[0, 9\]"),
        (lambda: editing.add(SCENE, (-1, 0), [1, 2, 3], SHAPE, only=0), ValueError,
         r"rows 0 to 6 and columns 0 to 8, got \[-1, 0\]"),
        (lambda: editing.move(SCENE, 0, (0, 0), 64, only=0), ValueError,
         r"image_shape must be \(H, W\) or \(H, W, C\), got 64"),
        (lambda: editing.restyle(SCENE, 0, 3, 0.5, only=0), ValueError,
         "dims must lie in 0 to 2, got 3"),
        (lambda: editing.restyle(SCENE, 0, [0, 1], 0.5, only=0), ValueError,
         r"values must have the shape \[2\], or \[1, 2\] with one per edited image"),
        (lambda: editing.restyle(SCENE, 0, 1, np.nan, only=0), ValueError,
         "values must be finite float32, got nan"),
        (lambda: editing.add(SCENE, (0, 0), [1e39, 0, 0], SHAPE, only=0), ValueError,
         "z_app must be finite float32, got 1e"),
        (lambda: editing.add(SCENE, (0, 0), [1.0], SHAPE, only=0), ValueError,
         r"z_app must have the shape \[3\], or \[1, 3\].*got \[1\]"),
        (lambda: editing.add(SCENE, (0, 0), [1, 2, 3], SHAPE), ValueError,
         "image 2 holds 4 objects already"),
        (lambda: editing.duplicate(SCENE, 0, (0, 0), SHAPE, only=2), ValueError,
         "image 2 holds 4 objects already"),
        (lambda: editing.interpolate(SCENE, 0, 1, 1.5, only=0), ValueError,
         "weight must lie in 0 to 1, got 1.5"),
        (lambda: editing.swap(SCENE, 0, 1, "colour", only=0), ValueError,
         "what must be 'appearance' or 'location', got 'colour'"),
        (lambda: editing.remove(SCENE, 0, only=3), ValueError,
         "only must lie in 0 to 2, got 3"),
        (lambda: editing.take(SCENE, [-1]), ValueError,
         "images must lie in 0 to 2, got -1"),
        (lambda: editing.take(SCENE, 0.5), TypeError,
         "images must be an integer or a list of integers, got float64"),
        (lambda: editing.remove(SCENE, [0.0, 1.0], only=[0, 2]), TypeError,
         "slot must hold integers, got float64"),
        (lambda: editing.traverse(SCENE, editing.remove, []), ValueError,
         "axis 0 of the grid must have at least one value"),
        (lambda: editing.traverse(SCENE, print, [0]), TypeError,
         "expected a lavae_jax.Scene, got NoneType"),
        (lambda: editing.empty(1, 0, 2), ValueError,
         "sizes of a scene must be at least 1, got 0"),
        (lambda: editing.remove(jax.tree.map(lambda a: a[0], SCENE), 0), ValueError,
         r"z_app \[B, M, L\].*got \[\[\], \[4, 2\], \[4, 3\], \[4\]\]"),
        (lambda: editing.remove(SCENE._replace(n=SCENE.n[::-1]), 0), ValueError,
         "active slots must be the first n of each image"),
        (lambda: editing.take(SCENE._replace(n=SCENE.n + 1), 2), ValueError,
         "active slots must be the first n of each image"),
        (lambda: jax.jit(editing.remove)(SCENE, 0), TypeError,
         "scenes are edited outside jax transformations"),
    ],
)  # fmt: skip
def test_what_is_refused(edit, error, message):
    """An invalid edit is refused, with the valid range in the message."""
    with pytest.raises(error, match=message):
        edit()
