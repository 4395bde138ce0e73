"""The three forms of Eq. 4 agree with a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax import compositing
from tests import reference

H, W, S, M, C = 7, 10, 5, 3, 2
FORMS = [compositing.composite_conv, compositing.composite_fft]


@pytest.fixture(name="sprites")
def _sprites():
    return np.random.default_rng(0).uniform(size=(2, M, S, S, C)).astype(np.float32)


@pytest.fixture(name="maps")
def _maps():
    weights = np.random.default_rng(1).exponential(size=(2, M, H, W))
    return (weights / weights.sum((2, 3), keepdims=True)).astype(np.float32)


# They are at corners, at borders, in the middle, and two on one site.
SITES = np.array([[0, H * W - 1, 3 * W + 4], [W - 1, 5 * W, 5 * W]], np.int32)
ALL = np.ones((2, M), bool)


@pytest.mark.parametrize("form", FORMS)
def test_relaxed_maps_are_convolved(form, sprites, maps):
    """Maps are convolved, not correlated, with sprites that are not symmetric."""
    expected = reference.convolve(sprites, maps)
    np.testing.assert_allclose(form(sprites, maps), expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_hard_maps_put_the_centre_on_the_site(form, sprites):
    """Sprites are cut at the border, and objects on one site add up."""
    maps = reference.one_hot_maps(SITES, ALL, H, W).astype(np.float32)
    expected = reference.convolve(sprites, maps)
    np.testing.assert_allclose(form(sprites, maps), expected, atol=1e-5)
    # This needs no reference: a corner shows the sprite from its centre on.
    np.testing.assert_allclose(
        form(sprites[:, :1], maps[:, :1])[0, :3, :3], sprites[0, 0, 2:, 2:], atol=1e-5
    )


def test_place_is_the_convolution_with_hard_maps(sprites):
    """`place` equals the convolution with hard maps."""
    expected = reference.convolve(sprites, reference.one_hot_maps(SITES, ALL, H, W))
    placed = compositing.place(sprites, SITES, H, W)
    np.testing.assert_allclose(placed, expected, atol=1e-6)


def _gradients(form, sprites, where):
    weights = np.random.default_rng(2).normal(size=(2, H, W, C)).astype(np.float32)

    def loss(sprites, where):
        return (form(sprites, where) * weights).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(sprites, where)


def test_gradient_of_conv_with_respect_to_a_map(sprites, maps):
    """The gradient is what a unit of the map paints, as Eq. 4 is linear in the maps."""
    weights = np.random.default_rng(2).normal(size=(2, H, W, C)).astype(np.float32)
    unit = np.zeros_like(maps, np.float64)
    unit[1, 2, 0, W - 2] = 1
    expected = (reference.convolve(sprites, unit) * weights).sum()
    gradient = _gradients(compositing.composite_conv, sprites, maps)[1]
    np.testing.assert_allclose(gradient[1, 2, 0, W - 2], expected, atol=1e-5)


def test_gradient_of_place_with_respect_to_the_sprites(sprites):
    """Each sprite gets the canvas's gradient at its site, as in the convolution."""
    maps = jnp.asarray(reference.one_hot_maps(SITES, ALL, H, W), jnp.float32)
    weights = np.random.default_rng(2).normal(size=(2, H, W, C)).astype(np.float32)

    def placed(sprites):
        return (compositing.place(sprites, SITES, H, W) * weights).sum()

    expected = _gradients(compositing.composite_conv, sprites, maps)[0]
    np.testing.assert_allclose(jax.jit(jax.grad(placed))(sprites), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "present", "absent"),
    [
        ("cpu", "stablehlo.fft", "stablehlo.convolution"),
        ("cuda", "stablehlo.convolution", "stablehlo.fft"),
        ("tpu", "stablehlo.convolution", "stablehlo.fft"),
    ],
)
def test_the_form_is_that_of_the_platform_compiled_for(
    platform, present, absent, sprites, maps
):
    """Program and gradient hold the form of that platform, and not the other one."""

    def loss(sprites, maps):
        return (compositing.composite(sprites, maps) ** 2).sum()

    traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).trace(sprites, maps)
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert present in program
    assert absent not in program


def test_gradients_on_this_platform(sprites, maps):
    """The gradients are those of the convolution, also under vmap."""
    expected = _gradients(compositing.composite_conv, sprites, maps)
    auto = _gradients(compositing.composite, sprites, maps)
    per_image = jax.vmap(lambda *args: compositing.composite(*(a[None] for a in args)))
    mapped = _gradients(lambda *args: per_image(*args)[:, 0], sprites, maps)
    for want, *found in zip(expected, auto, mapped, strict=True):
        for gradient in found:
            np.testing.assert_allclose(gradient, want, atol=1e-5)


def test_windows_are_cut_around_sites():
    """Windows are cut from the image asked for, and are 0 beyond its border."""
    images = np.random.default_rng(3).normal(size=(2, H, W, C)).astype(np.float32)
    image = np.array([1, 0, 1, 0], np.int32)
    sites = np.array([0, H * W - 1, 3 * W + 4, W - 1], np.int32)
    expected = [
        reference.window(images[b], d, S) for b, d in zip(image, sites, strict=True)
    ]
    np.testing.assert_array_equal(
        compositing.windows(images, image, sites, S), np.array(expected, np.float32)
    )
