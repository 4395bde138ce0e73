"""What edits paint."""

import jax
import numpy as np
import pytest
from hypothesis import given

import lavae_jax
from lavae_jax import editing
from tests import tiny_models
from tests.scene_lists import (
    DATA,
    PLACES,
    SHAPE,
    B,
    L,
    M,
    examples,
    images_of,
    make,
    same,
    slots_of,
)


@pytest.fixture(scope="module", name="trained")
def _trained():
    model = tiny_models.tiny_model(max_objects=M, app_dim=L)
    return model, tiny_models.random_variables(model)


def paint(trained, scene):
    """Paints three scenes at once, so that one program serves all tests."""
    assert scene.n.shape == (B,)
    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(lavae_jax.render(*trained, scene))


@examples
@given(images=images_of())
def test_a_scene_without_objects_is_the_empty_canvas(trained, images):
    """Without objects, however they were removed, the picture is empty."""
    scene = make(images)
    emptied = editing.select(scene, [])
    one_by_one = scene
    for b, objects in enumerate(images):
        for _ in objects:
            one_by_one = editing.remove(one_by_one, 0, only=b)
    assert same(one_by_one, emptied)
    np.testing.assert_array_equal(
        paint(trained, emptied), np.float32(trained[0].epsilon)
    )


@examples
@given(images=images_of(2))
def test_the_order_of_objects_is_not_seen(trained, images):
    """Reordering either sequence paints the same swapped picture (Fig. 6)."""
    scene = make(images)
    pictures = [
        paint(trained, editing.swap(scene, 0, 1, what))
        for what in ("location", "appearance")
    ]
    np.testing.assert_allclose(*pictures, atol=1e-6)


@examples
@given(images=images_of(1), place=PLACES, data=DATA)
def test_a_move_is_seen_in_two_windows_only(trained, images, place, data):
    """A move changes pixels only where the object was and where it is."""
    scene, slots = make(images), slots_of(data, images)
    moved = editing.move(scene, slots, place, SHAPE)
    changed = paint(trained, scene) != paint(trained, moved)
    for b, slot in enumerate(slots):
        far = np.ones(changed.shape[1:3], bool)
        for y, x in (images[b][slot][0], place):
            far[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = False
        assert not changed[b][far].any()


def test_a_restyle_changes_the_sprite(trained):
    """A new appearance changes pixels only where the object is."""
    scene = make([[((2, 2), [0.5, 1.0, -1.0]), ((5, 6), [1.5, 0.0, 0.3])]] * B)
    grid = editing.traverse(
        scene,
        lambda scene, dim: editing.restyle(scene, 1, dim, 3.0, only=dim),
        range(B),
    )
    before = paint(trained, scene)
    for dim in range(B):
        after = paint(trained, editing.take(grid, range(B * dim, B * dim + B)))
        changed = (before != after).any(axis=-1)
        assert changed[dim, 4:7, 5:8].all()
        assert changed.sum() == 9
