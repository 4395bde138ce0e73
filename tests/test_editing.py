"""Edits agree with lists of objects in plain Python, and refuse what is invalid."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lavae_jax
from lavae_jax import editing
from tests import tiny_models

B, M, L = 3, 4, 3
SHAPE = (7, 9, 2)
PLACES = st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1))
NUMBERS = st.floats(-4, 4, width=32)
APPEARANCES = st.lists(NUMBERS, min_size=L, max_size=L)
OBJECTS = st.tuples(PLACES, APPEARANCES)
WHATS = st.sampled_from(["appearance", "location"])
DATA = st.data()

examples = settings(derandomize=True, deadline=None, max_examples=25)


def make(images):
    """Makes the scene of some lists of (place, appearance), one list per image."""
    n = np.array([len(objects) for objects in images], np.int32)
    yx = np.zeros((len(images), M, 2), np.int32)
    z_app = np.zeros((len(images), M, L), np.float32)
    for b, objects in enumerate(images):
        for slot, (place, appearance) in enumerate(objects):
            yx[b, slot], z_app[b, slot] = place, appearance
    active = np.arange(M) < n[:, None]
    return lavae_jax.Scene(*map(jnp.asarray, (n, yx, z_app, active)))


def images_of(fewest=0, most=M):
    """Returns a strategy for lists of `fewest` to `most` objects, one per image."""
    return st.lists(
        st.lists(OBJECTS, min_size=fewest, max_size=most), min_size=B, max_size=B
    )


def slots_of(data, images):
    """Draws the slot of an object of every image."""
    return [data.draw(st.integers(0, len(objects) - 1)) for objects in images]


def check(scene, images):
    """Asserts that the scene holds these objects, laid out as `infer` does it."""
    expected = make(images)
    assert scene.background is expected.background is None
    for field, wanted in zip(scene[:4], expected[:4], strict=True):
        assert isinstance(field, jax.Array)
        assert field.dtype == wanted.dtype
        np.testing.assert_array_equal(field, wanted)


@examples
@given(images_of(1), DATA)
def test_move(images, data):
    """The object has the new place; nothing else changes, nor does the old scene."""
    scene, slots = make(images), slots_of(data, images)
    yx = [data.draw(PLACES) for _ in images]
    moved = editing.move(scene, slots, yx, SHAPE)
    check(scene, images)
    for objects, slot, place in zip(images, slots, yx, strict=True):
        objects[slot] = (place, objects[slot][1])
    check(moved, images)


@examples
@given(images_of(1), WHATS, DATA)
def test_swap(images, what, data):
    """Two objects have each other's place, or appearance."""
    scene = make(images)
    first, second = slots_of(data, images), slots_of(data, images)
    swapped = editing.swap(scene, first, second, what)
    for objects, i, j in zip(images, first, second, strict=True):
        a, b = objects[i], objects[j]
        if what == "location":
            objects[i], objects[j] = (b[0], a[1]), (a[0], b[1])
        else:
            objects[i], objects[j] = (a[0], b[1]), (b[0], a[1])
    check(swapped, images)


@examples
@given(images_of(1), DATA)
def test_remove(images, data):
    """The object is gone, and the others keep their order."""
    scene, slots = make(images), slots_of(data, images)
    removed = editing.remove(scene, slots)
    for objects, slot in zip(images, slots, strict=True):
        del objects[slot]
    check(removed, images)


@examples
@given(images_of(), DATA)
def test_select(images, data):
    """Any slots that all images have can be kept, in any order, or none."""
    fewest = min(len(objects) for objects in images)
    slots = data.draw(st.permutations(range(fewest)))
    slots = slots[: data.draw(st.integers(0, fewest))]
    selected = editing.select(make(images), slots)
    check(selected, [[objects[slot] for slot in slots] for objects in images])


@examples
@given(images_of(most=M - 1), DATA)
def test_add(images, data):
    """The new object is the last one, with its own place and appearance."""
    new = [data.draw(OBJECTS) for _ in images]
    yx, z_app = zip(*new, strict=True)
    added = editing.add(make(images), yx, z_app, SHAPE)
    check(added, [[*objects, one] for objects, one in zip(images, new, strict=True)])


@examples
@given(images_of(1, M - 1), DATA)
def test_duplicate(images, data):
    """The copy is the last object, at its own place."""
    scene, slots = make(images), slots_of(data, images)
    yx = [data.draw(PLACES) for _ in images]
    copied = editing.duplicate(scene, slots, yx, SHAPE)
    for objects, slot, place in zip(images, slots, yx, strict=True):
        objects.append((place, objects[slot][1]))
    check(copied, images)


@examples
@given(images_of(1), DATA)
def test_restyle(images, data):
    """The dimensions named have the new values, in their order."""
    scene, slots = make(images), slots_of(data, images)
    dims = data.draw(st.lists(st.integers(0, L - 1), unique=True))
    values = np.array([[data.draw(NUMBERS) for _ in dims] for _ in images])
    restyled = editing.restyle(scene, slots, dims, values)
    for objects, slot, row in zip(images, slots, values, strict=True):
        place, appearance = objects[slot]
        appearance = list(appearance)
        for dim, value in zip(dims, row, strict=True):
            appearance[dim] = value
        objects[slot] = (place, appearance)
    check(restyled, images)


@examples
@given(images_of(1), WHATS, DATA)
def test_interpolate(images, what, data):
    """The result is (1 − w) a + w b, with places rounded to the nearest pixel."""
    scene = make(images)
    first, second = slots_of(data, images), slots_of(data, images)
    weights = [0.0, 1.0, data.draw(st.floats(0, 1, width=32))]
    mixed = editing.interpolate(scene, first, second, weights, what)
    for objects, i, j, w in zip(images, first, second, weights, strict=True):
        (place, appearance), other = objects[i], objects[j]
        if what == "appearance":
            pairs = np.array([appearance, other[1]], np.float64)
            appearance = ((1 - w) * pairs[0] + w * pairs[1]).astype(np.float32)
        else:
            place = np.rint((1 - w) * np.array(place) + w * np.array(other[0]))
        objects[i] = (place, appearance)
    expected = make(images)
    np.testing.assert_allclose(mixed.z_app, expected.z_app, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mixed.z_app[:2], expected.z_app[:2])
    np.testing.assert_array_equal(mixed.yx, expected.yx)
    np.testing.assert_array_equal(mixed.n, expected.n)


@examples
@given(images_of(1), st.lists(st.integers(0, B - 1), unique=True), PLACES)
def test_only_some_images_are_edited(images, only, place):
    """Other images stay as they are, and one argument serves all edited ones."""
    scene = make(images)
    moved = editing.move(scene, 0, place, SHAPE, only=only)
    removed = editing.remove(scene, 0, only=only)
    for b in only:
        images[b][0] = (place, images[b][0][1])
    check(moved, images)
    for b in only:
        del images[b][0]
    check(removed, images)


@examples
@given(images_of(), st.lists(st.integers(0, B - 1), max_size=2 * B))
def test_take(images, chosen):
    """Images are taken in any order, also more than once."""
    check(editing.take(make(images), chosen), [images[b] for b in chosen])


def test_empty():
    """An empty scene has nothing in any slot."""
    check(editing.empty(B, M, L), [[]] * B)


def test_traverse():
    """The grid's last axis varies faster than the first, and images vary fastest."""
    images = [[((1, 2), [0.5, 1.0, 2.0])], [((3, 4), [-1.0, 0.0, 3.0])]]
    scene, dims, values = make(images), [2, 0], np.array([-7.0, 0.25, 8.0])
    grid = editing.traverse(
        scene,
        lambda scene, dim, value: editing.restyle(scene, 0, dim, value),
        dims,
        values,
    )
    expected = []
    for dim, value, ((place, appearance),) in itertools.product(dims, values, images):
        changed = [value if i == dim else a for i, a in enumerate(appearance)]
        expected.append([(place, changed)])
    check(grid, expected)
    check(editing.traverse(scene, editing.remove, [0]), [[], []])


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


def test_a_scene_of_another_model_is_not_painted():
    """The message says which background the model needs, before anything is painted."""
    smooth = tiny_models.tiny_model(compositing="alpha", background="smooth")
    black = tiny_models.tiny_model()
    scene = make([[], []])
    wrong = scene._replace(background=jnp.zeros((1, 1)))
    for model, other, said in (
        (smooth, scene, r"must be \[2, 1\] for this model: got None"),
        (smooth, wrong, r"got \[1, 1\]"),
        (black, wrong, r"must be None"),
    ):
        with pytest.raises(ValueError, match=said):
            lavae_jax.render(model, {}, other)


def test_backgrounds_stay_with_their_images():
    """Every edit keeps the background's latent, and taken images bring theirs along."""
    scene = make([[((1, 2), [0.5, 1.0, -1.0])], [((3, 0), [0.0, 2.0, 1.0])]])
    background = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    scene = scene._replace(background=jnp.asarray(background))
    moved = editing.move(scene, 0, (2, 2), (8, 8))
    removed = editing.remove(scene, 0, only=1)
    for edited in (moved, removed, editing.restyle(scene, 0, 0, 1.0)):
        assert isinstance(edited.background, jax.Array)
        np.testing.assert_array_equal(edited.background, background)
    np.testing.assert_array_equal(
        editing.take(scene, [1, 0, 1]).background, background[[1, 0, 1]]
    )
    grid = editing.traverse(
        scene, lambda s, x: editing.move(s, 0, (x, x), (8, 8)), [0, 1]
    )
    np.testing.assert_array_equal(grid.background, np.tile(background, (2, 1)))
