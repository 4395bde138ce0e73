"""What edits are to each other, and what they paint."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lavae_jax
from lavae_jax import editing
from tests import tiny_models
from tests.scene_lists import (
    DATA,
    NUMBERS,
    PLACES,
    SHAPE,
    WHATS,
    B,
    L,
    M,
    examples,
    images_of,
    make,
    same,
    slots_of,
)

# What edits are to each other.


@examples
@given(images_of(1), PLACES, WHATS, DATA)
def test_edits_that_undo_each_other(images, place, what, data):
    """An edit and its inverse give the scene back."""
    scene, slots = make(images), slots_of(data, images)
    places = [objects[slot][0] for objects, slot in zip(images, slots, strict=True)]
    there = editing.move(scene, slots, place, SHAPE)
    assert same(editing.move(there, slots, places, SHAPE), scene)

    others = slots_of(data, images)
    swapped = editing.swap(scene, slots, others, what)
    assert same(swapped, editing.swap(scene, others, slots, what))
    assert same(editing.swap(swapped, slots, others, what), scene)

    roomy = [b for b, objects in enumerate(images) if len(objects) < M]
    last = [len(images[b]) for b in roomy]
    copied = editing.duplicate(scene, 0, place, SHAPE, only=roomy)
    assert same(editing.remove(copied, last, only=roomy), scene)

    image = data.draw(st.integers(0, B - 1))
    order = data.draw(st.permutations(range(len(images[image]))))
    ordered = editing.select(scene, order, only=image)
    assert same(editing.select(ordered, np.argsort(order), only=image), scene)


@examples
@given(images_of(2), PLACES, PLACES, NUMBERS, DATA)
def test_edits_that_commute(images, place, other_place, value, data):
    """Edits of different objects, fields or images commute."""
    scene = make(images)
    dim = data.draw(st.integers(0, L - 1))

    def commute(*edits):
        return same(edits[0](edits[1](scene)), edits[1](edits[0](scene)))

    def move(slot, place, only=None):
        return lambda scene: editing.move(scene, slot, place, SHAPE, only=only)

    def restyle(slot):
        return lambda scene: editing.restyle(scene, slot, dim, value)

    def swap(what):
        return lambda scene: editing.swap(scene, 0, 1, what)

    assert commute(move(0, place), move(1, other_place))
    assert commute(move(1, place), restyle(1))
    assert commute(restyle(0), move(1, place))
    assert commute(swap("location"), swap("appearance"))
    assert commute(move(0, place, only=0), move(0, other_place, only=2))
    assert commute(
        lambda scene: editing.remove(scene, 0, only=1), move(1, place, [0, 2])
    )
    # They do not where the order decides.
    assert commute(move(0, place), move(0, other_place)) == (place == other_place)


@examples
@given(images_of(2, 2))
def test_a_swap_of_both_sequences_reorders_the_objects(images):
    """After either swap the same objects are at the same places, in other slots."""
    scene = make(images)
    both = editing.swap(editing.swap(scene, 0, 1, "location"), 0, 1, "appearance")
    assert same(both, editing.select(scene, [1, 0]))


# What edits paint.


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
