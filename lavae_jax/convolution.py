"""Convolutional layers whose gradients are as fast in loops and branches as outside.

A gradient of a convolution is a convolution, too, with other roles of its dimensions.
XLA's CPU compiler moves the dimensions of such convolutions to where its fast program
needs them, but only outside of `lax.scan`, `lax.cond` and their like: inside, the
gradients that f_sprite and minibatch updates need take 40 times as long; see
experiments/TRIALS.md. Here the dimensions are moved before XLA sees the convolution.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from lavae_jax.types import Array

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    x: Array, kernel: Array, window_strides: Any, padding: Any, **options: Any
) -> Array:
    """Computes `lax.conv_general_dilated` for `nn.Conv`, with its arguments.

    The gradients of layers with a stride of 1, "SAME" padding and an odd kernel, which
    must have no dilation and no groups, are fast in loops on a CPU.
    """
    is_odd = all(side % 2 for side in kernel.shape[:2])
    if set(window_strides) == {1} and padding == "SAME" and is_odd:
        return _same(x, kernel)
    return lax.conv_general_dilated(x, kernel, window_strides, padding, **options)


Conv = partial(nn.Conv, conv_general_dilated=conv_general_dilated)
"""`nn.Conv` with these gradients."""


def _convolve(x, kernel, padding="SAME"):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=_DIMENSIONS
    )


@jax.custom_vjp
def _same(x: Array, kernel: Array) -> Array:
    """Convolves x [B, H, W, C] with a kernel [k, l, C, F] to [B, H, W, F]."""
    return _convolve(x, kernel)


def _forward(x, kernel):
    return _convolve(x, kernel), (x, kernel)


def _backward(residuals, cotangent):
    return lax.platform_dependent(
        *residuals, cotangent, cpu=moved_gradients, default=plain_gradients
    )


_same.defvjp(_forward, _backward)


def plain_gradients(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    """Computes the gradients of x and the kernel from that of the result, as JAX does.

    Shapes are those of x, [B, H, W, C], the kernel, [k, l, C, F], and the result,
    [B, H, W, F].
    """
    return jax.vjp(_convolve, x, kernel)[1](cotangent)


def moved_gradients(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    """Computes `plain_gradients` as convolutions of images with kernels."""
    of_x = _convolve(cotangent, kernel[::-1, ::-1].swapaxes(2, 3))
    # The sum over images and sites: images are channels, and the cotangent a kernel.
    padding = [(side // 2, side // 2) for side in kernel.shape[:2]]
    images, kernels = x.transpose(3, 1, 2, 0), cotangent.transpose(1, 2, 0, 3)
    of_kernel = _convolve(images, kernels, padding)  # [C, k, l, F]
    return of_x, of_kernel.transpose(1, 2, 0, 3)
