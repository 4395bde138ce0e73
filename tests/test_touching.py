"""Scenes made to touch, and the steps that teach h_loc with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax import touching


def _allowed(lit, other):
    """`touching_shifts` as a plain loop over shifts and pixels."""
    height, width = lit.shape
    found = set()
    for down in range(-height + 1, height):
        for right in range(-width + 1, width):
            rows, columns = np.nonzero(other)
            rows, columns = rows + down, columns + right
            if rows.min() < 0 or columns.min() < 0:
                continue
            if rows.max() >= height or columns.max() >= width:
                continue
            near = [
                lit[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].any()
                for r, c in zip(rows, columns, strict=True)
            ]
            if any(near) and not lit[rows, columns].any():
                found.add((down, right))
    return found


def _signed(shifts):
    size = np.array(shifts.shape)
    found = np.argwhere(shifts)
    return {
        tuple(map(int, s)) for s in np.where(found < size // 2, found, found - size)
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shifts_are_those_of_a_plain_search(seed):
    """On an asymmetric canvas, with ragged masks and with one at the border."""
    rng = np.random.default_rng(seed)
    lit, other = np.zeros((2, 9, 13), np.float32)
    lit[2:6, 7:11] = rng.random((4, 4)) < 0.6
    lit[0, 0] = seed == 2
    other[5:9, 0:3] = rng.random((4, 3)) < 0.6
    other[8, 0] = 1
    found = _signed(np.asarray(touching.touching_shifts(lit, other)))
    assert found == _allowed(lit, other)
    assert found


def test_an_empty_scene_is_touched_by_nothing():
    """Neither of the two may be empty."""
    lit, empty = jnp.zeros((8, 8)).at[3, 4].set(1.0), jnp.zeros((8, 8))
    assert not touching.touching_shifts(lit, empty).any()
    assert not touching.touching_shifts(empty, lit).any()


def _scenes():
    """Empty, one object (twice), two objects, three: 3×2 rectangles in 2 colours."""
    corners = [[], [(1, 1)], [(9, 17)], [(0, 5), (9, 5)], [(5, 0), (5, 9), (5, 18)]]
    x = np.zeros((5, 12, 20, 2), np.float32)
    centres, valid = np.zeros((5, 4, 2), np.float32), np.zeros((5, 4), bool)
    for i, of_scene in enumerate(corners):
        for j, (row, column) in enumerate(of_scene):
            x[i, row : row + 3, column : column + 2, j % 2] = 1
            # In any slot, as refinement has them.
            centres[i, 3 - j], valid[i, 3 - j] = (row + 1, column + 0.5), True
    return touching.Placed(*map(jnp.asarray, (x, centres, valid)))


def test_an_object_is_added_that_touches():
    """It is whole, does not overlap, and lies where the centres say."""
    scenes = _scenes()
    make = jax.jit(touching.make_touch)
    shifts = set()
    for seed in range(20):
        keys = jax.random.split(jax.random.key(seed), 5)
        made, added = make(scenes, scenes, keys)
        # Of an empty scene there is nothing to touch; three objects are the most.
        assert added.tolist() == [False, True, True, True, False]
        np.testing.assert_array_equal(made.valid.sum(1), [0, 2, 2, 3, 3])
        np.testing.assert_array_equal(made.x.sum((1, 2, 3)), [0, 12, 12, 18, 18])
        assert made.x.max() == 1
        for i in (0, 4):
            np.testing.assert_array_equal(made.x[i], scenes.x[i])
        for i in (1, 2, 3):
            (new,) = made.centres[i, 4:][np.asarray(made.valid[i, 4:])]
            row, column = int(new[0]) - 1, int(new[1] - 0.5)
            added_pixels = np.asarray(made.x[i] - scenes.x[i]).max(axis=-1)
            expected = np.zeros_like(added_pixels)
            expected[row : row + 3, column : column + 2] = 1
            np.testing.assert_array_equal(added_pixels, expected)
            around = made.x[i].max(-1)[
                max(row - 1, 0) : row + 4, max(column - 1, 0) : column + 3
            ]
            assert around.sum() > 6
            shifts.add((i, row, column))
    assert len(shifts) > 20  # they are drawn, not always the same


def test_scenes_without_a_single_object_stay():
    """Where no scene has one object alone there is nothing to add."""
    scenes = jax.tree.map(lambda leaf: leaf[jnp.array([0, 3, 4])], _scenes())
    made, added = touching.make_touch(
        scenes, scenes, jax.random.split(jax.random.key(0), 3)
    )
    assert not added.any()
    np.testing.assert_array_equal(made.x, scenes.x)
    np.testing.assert_array_equal(made.valid[:, 4:], False)


def test_devices_draw_from_all_scenes():
    """Half of the scenes with all to draw from are the first half of all."""
    scenes, keys = _scenes(), jax.random.split(jax.random.key(3), 5)
    made, _ = touching.make_touch(scenes, scenes, keys)
    some = jax.tree.map(lambda leaf: leaf[1:3], scenes)
    half, _ = touching.make_touch(some, scenes, keys[1:3])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[1:3]), half, made)
