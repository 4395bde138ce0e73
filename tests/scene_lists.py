"""Scenes as lists of objects in plain Python, to hold edits to."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import lavae_jax

B, M, L = 3, 4, 3
SHAPE = (7, 9, 2)
PLACES = st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1))
NUMBERS = st.floats(-4, 4, width=32)
APPEARANCES = st.lists(NUMBERS, min_size=L, max_size=L)
OBJECTS = st.tuples(PLACES, APPEARANCES)
WHATS = st.sampled_from(["appearance", "location"])
DATA = st.data()

examples = settings(derandomize=True, deadline=None, max_examples=40)


def make(images):
    """The scene of some lists of (place, appearance), one list per image."""
    n = np.array([len(objects) for objects in images], np.int32)
    yx = np.zeros((len(images), M, 2), np.int32)
    z_app = np.zeros((len(images), M, L), np.float32)
    for b, objects in enumerate(images):
        for slot, (place, appearance) in enumerate(objects):
            yx[b, slot], z_app[b, slot] = place, appearance
    active = np.arange(M) < n[:, None]
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
