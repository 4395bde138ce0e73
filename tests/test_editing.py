"""Edits of scenes, against lists of objects in plain Python, and what they paint."""

import doctest
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

examples = settings(derandomize=True, deadline=None, max_examples=40)


def make(images, max_objects=M, app_dim=L):
    """The scene of some lists of (place, appearance), one list per image."""
    n = np.array([len(objects) for objects in images], np.int32)
    yx = np.zeros((len(images), max_objects, 2), np.int32)
    z_app = np.zeros((len(images), max_objects, app_dim), np.float32)
    for b, objects in enumerate(images):
        for slot, (place, appearance) in enumerate(objects):
            yx[b, slot], z_app[b, slot] = place, appearance
    active = np.arange(max_objects) < n[:, None]
    return lavae_jax.Scene(*map(jnp.asarray, (n, yx, z_app, active)))


def images_of(fewest=0, most=M):
    """Lists of objects of B images, each with some number of them."""
    return st.lists(
        st.lists(OBJECTS, min_size=fewest, max_size=most), min_size=B, max_size=B
    )


def slots_of(data, images):
    """An object of every image."""
    return [data.draw(st.integers(0, len(objects) - 1)) for objects in images]


def check(scene, images):
    """The scene holds these objects, and all of its layout is as `infer` leaves it."""
    expected = make(images)
    for field, wanted in zip(scene, expected, strict=True):
        assert isinstance(field, jax.Array)
        assert field.dtype == wanted.dtype
        np.testing.assert_array_equal(field, wanted)


def same(scene, other):
    """Whether two scenes are equal in everything."""
    return all(np.array_equal(a, b) for a, b in zip(scene, other, strict=True))


# Every edit with arguments of its own for each image.


@examples
@given(images_of(1), DATA)
def test_move(images, data):
    """The object has the new place; nothing else changes, the old scene neither."""
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
    """The others keep their order."""
    scene, slots = make(images), slots_of(data, images)
    removed = editing.remove(scene, slots)
    for objects, slot in zip(images, slots, strict=True):
        del objects[slot]
    check(removed, images)


@examples
@given(images_of(), DATA)
def test_select(images, data):
    """Some of the objects that all images have, in any order; or none."""
    fewest = min(len(objects) for objects in images)
    slots = data.draw(st.permutations(range(fewest)))
    slots = slots[: data.draw(st.integers(0, fewest))]
    selected = editing.select(make(images), slots)
    check(selected, [[objects[slot] for slot in slots] for objects in images])


@examples
@given(images_of(most=M - 1), DATA)
def test_add(images, data):
    """The new object is the last one."""
    new = [data.draw(OBJECTS) for _ in images]
    yx, z_app = zip(*new, strict=True)
    added = editing.add(make(images), yx, z_app, SHAPE)
    check(added, [[*objects, one] for objects, one in zip(images, new, strict=True)])


@examples
@given(images_of(1, M - 1), DATA)
def test_duplicate(images, data):
    """The copy is the last one, at its own place."""
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
    """(1 − w) a + w b, places to the nearest pixel; a itself at 0, b's value at 1."""
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
    """The others stay as they are, and one argument serves all that are edited."""
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
    """Images in any order, more than once."""
    check(editing.take(make(images), chosen), [images[b] for b in chosen])


def test_empty():
    """Nothing in any slot."""
    check(editing.empty(B, M, L), [[]] * B)


def test_traverse():
    """The last axis is faster than the first, and images are fastest."""
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


# What edits are to each other.


@examples
@given(images_of(1), PLACES, WHATS, DATA)
def test_edits_that_undo_each_other(images, place, what, data):
    """There and back; twice; added and removed; an order and its inverse."""
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
    """Of other objects, of location and appearance, and of other images."""
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
    """So after either swap alone the same objects are at the same places."""
    scene = make(images)
    both = editing.swap(editing.swap(scene, 0, 1, "location"), 0, 1, "appearance")
    assert same(both, editing.select(scene, [1, 0]))


# What edits paint.


@pytest.fixture(scope="module", name="trained")
def _trained():
    model = tiny_models.tiny_model(max_objects=M, app_dim=L)
    return model, tiny_models.random_variables(model)


def paint(trained, scene):
    """Three pictures, so that one program paints all of them."""
    assert scene.n.shape == (B,)
    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(lavae_jax.render(*trained, scene))


@examples
@given(images=images_of())
def test_a_scene_without_objects_is_the_empty_canvas(trained, images):
    """However they are removed: one by one, or all at once."""
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
    """Where the object was and where it is; both as without it, and as it alone."""
    scene, slots = make(images), slots_of(data, images)
    moved = editing.move(scene, slots, place, SHAPE)
    changed = paint(trained, scene) != paint(trained, moved)
    for b, slot in enumerate(slots):
        far = np.ones(changed.shape[1:3], bool)
        for y, x in (images[b][slot][0], place):
            far[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = False
        assert not changed[b][far].any()


def test_a_restyle_changes_the_sprite(trained):
    """Where the object is, and nowhere else."""
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


# What is refused.

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
    """With the valid range in the message."""
    with pytest.raises(error, match=message):
        edit()


def test_examples_of_the_docstrings():
    """Every public function has one, and they hold."""
    finder = doctest.DocTestFinder(exclude_empty=False)
    runner = doctest.DocTestRunner()
    for test in finder.find(editing):
        result = runner.run(test)
        assert result.failed == 0
        assert result.attempted or test.name == "lavae_jax.editing"
