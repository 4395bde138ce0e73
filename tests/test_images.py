"""The library takes binary or other images, and says what is wrong with others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax import images

SHAPE = (4, 5, 3)


@pytest.fixture(name="binary")
def _binary():
    return np.random.default_rng(0).integers(0, 2, (2, *SHAPE))


@pytest.mark.parametrize(
    "dtype",
    [
        *(np.uint8, np.int64, bool, np.float16, np.float32, np.float64),
        *(np.longdouble, jnp.bfloat16, ">i2", ">f4"),
    ],
)
def test_every_binary_image_is_taken(binary, dtype):
    """Images of every type become float32 with the same pixels."""
    x = images.check(binary.astype(dtype), SHAPE)
    assert x.dtype == jnp.float32
    np.testing.assert_array_equal(x, binary)


def test_images_as_stored_are_taken(binary):
    """Images of 0 and 255 become 0 and 1, also inside a transformation."""
    stored = (255 * binary).astype(np.uint8)
    np.testing.assert_array_equal(images.check(stored, SHAPE), binary)
    traced = jax.jit(lambda a: images.check(a, SHAPE))(stored)
    np.testing.assert_array_equal(traced, binary)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a[0], ValueError, r"shape \[B, 4, 5, 3\], got \[4, 5, 3\]"),
        (lambda a: a[..., :1], ValueError, r"got \[2, 4, 5, 1\]"),
        (lambda a: a[:0], ValueError, "at least one image"),
        (lambda a: a.astype(np.complex64), TypeError, "got complex64"),
        (lambda a: a.astype(object), TypeError, r"np.asarray\(images, np.float32\)"),
        (lambda a: a / 3, ValueError, "binary.*got a pixel of 0.33"),
        (lambda a: 255.0 * a, ValueError, "floats of 0 and 1, got a pixel of 255.0"),
        (lambda a: a * np.nan, ValueError, "binary.*got a pixel of nan"),
        (lambda a: 7 * a, ValueError, "binary.*got a pixel of 7"),
        (lambda a: a + 254 * a * (a.cumsum(2) > 1), ValueError, "a pixel of 255"),
    ],
)
def test_anything_else_is_refused(binary, change, error, message):
    """The message says what was expected and what was found."""
    with pytest.raises(error, match=message):
        images.check(change(binary), SHAPE)


def test_images_of_many_values_are_taken(binary):
    """Where pixels need not be binary, floats stay and whole numbers become x / 255."""
    floats = (binary * 0.7).astype(np.float64)
    np.testing.assert_allclose(images.check(floats, SHAPE, False), floats, rtol=1e-6)
    whole = np.arange(120).reshape(2, *SHAPE).astype(np.uint8)
    expected = whole / 255
    np.testing.assert_allclose(images.check(whole, SHAPE, False), expected, rtol=1e-6)
    found = images.check(binary.astype(bool), SHAPE, False)
    np.testing.assert_array_equal(found, binary)
    traced = jax.jit(lambda a: images.check(a, SHAPE, False))(whole)
    np.testing.assert_allclose(traced, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1.5, np.float32, "from 0 to 1.*got a pixel of 1.5"),
        (np.nan, np.float32, "a pixel of nan"),
        (256, np.int64, "from 0 to 255.*got a pixel of 256"),
        (-1, np.int64, "a pixel of -1"),
    ],
)
def test_values_out_of_range_are_refused(value, dtype, message):
    """The message says which values the type of the images may have."""
    wrong = np.zeros((2, *SHAPE), dtype)
    wrong[1, 2, 3] = value
    with pytest.raises(ValueError, match=message):
        images.check(wrong, SHAPE, False)
