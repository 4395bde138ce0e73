"""Convolutional layers have exact gradients that a CPU computes fast in loops, too."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lavae_jax import convolution

KERNELS = [(1, 1), (3, 3), (5, 3)]


def _arrays(kernel_size):
    """Returns x, a kernel and the gradient of the result, all without symmetry."""
    rng = np.random.default_rng(0)
    shapes = (3, 7, 6, 4), (*kernel_size, 4, 5), (3, 7, 6, 5)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("kernel_size", KERNELS)
def test_moved_gradients_are_those_of_the_definition(kernel_size):
    """Both gradients equal sums over images, sites and offsets in float64."""
    x, kernel, cotangent = (a.astype(np.float64) for a in _arrays(kernel_size))
    (_, height, width, _), (rows, columns) = x.shape, kernel_size
    r, c = rows // 2, columns // 2
    padded = np.pad(x, ((0, 0), (r, r), (c, c), (0, 0)))
    of_padded, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(rows):
        for j in range(columns):
            window = np.s_[:, i : i + height, j : j + width]
            of_kernel[i, j] = np.einsum("bhwc,bhwf->cf", padded[window], cotangent)
            of_padded[window] += cotangent @ kernel[i, j].T
    of_x = of_padded[:, r : r + height, c : c + width]
    moved = convolution.moved_gradients(*_arrays(kernel_size))
    plain = convolution.plain_gradients(*_arrays(kernel_size))
    for gradients in (moved, plain):
        np.testing.assert_allclose(gradients[0], of_x, atol=1e-4)
        np.testing.assert_allclose(gradients[1], of_kernel, atol=1e-4)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("kernel_size", [(3, 3), (4, 4)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layer_equals_flax(strides, kernel_size, dtype):
    """`Conv` has the parameters, outputs and gradients of `nn.Conv`, for any kernel."""
    x = _arrays((3, 3))[0]
    options = {"features": 5, "kernel_size": kernel_size, "strides": strides}
    ours, flax = (make(**options, dtype=dtype) for make in (convolution.Conv, nn.Conv))
    variables = flax.init(jax.random.key(0), x)

    def loss(layer, variables, x):
        return (layer.apply(variables, x).astype(jnp.float32) ** 2).sum()

    results = [
        jax.value_and_grad(loss, argnums=(1, 2))(layer, variables, x)
        for layer in (ours, flax)
    ]
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if dtype == jnp.float32 else {"rtol": 0.02}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), **tolerance
        ),
        *results,
    )


def test_gradients_in_a_branch_are_convolutions_of_images():
    """In a branch, no convolution is left with dimensions that are slow on a CPU."""
    x, kernel, _ = _arrays((3, 3))
    layer = convolution.Conv(5, (3, 3))
    variables = {"params": {"kernel": kernel, "bias": np.zeros(5, np.float32)}}

    def loss(layer, x, variables):
        y = lax.cond(
            x.sum() > 0,
            lambda x: layer.apply(variables, x),
            lambda x: layer.apply(variables, 2 * x),
            x,
        )
        return (y**2).sum()

    def dimensions(layer):
        grad = jax.jit(jax.grad(lambda *args: loss(layer, *args), argnums=(0, 1)))
        program = grad.lower(x, variables).compile().as_text()
        return set(re.findall(r"dim_labels=(\S+?)[,\s]", program))

    assert dimensions(layer) == {"b01f_01io->b01f"}
    assert dimensions(nn.Conv(5, (3, 3))) - {"b01f_01io->b01f"}


def test_accelerators_keep_plain_gradients():
    """The moved form is for CPUs alone: its kernels are as large as images."""
    x, kernel, cotangent = _arrays((3, 3))

    def gradients(x, kernel, cotangent):
        def layer(x, kernel):
            return convolution.conv_general_dilated(x, kernel, (1, 1), "SAME")

        return jax.vjp(layer, x, kernel)[1](cotangent)

    def first_dimensions(platform):
        traced = jax.jit(gradients).trace(x, kernel, cotangent)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return set(re.findall(r"dim_numbers = \[(\w)", text))

    assert first_dimensions("cpu") == {"b"}
    assert first_dimensions("cuda") == first_dimensions("tpu") == {"b", "f"}
