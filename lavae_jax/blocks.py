"""Appendix B: the layers that all networks are built from.

Layers compute in `dtype`, with parameters and batch statistics in float32. The last
layer of a network always computes in float32: its outputs are probabilities, or are
compared with a threshold or with each other. `axis_name` is the mapped axis of devices,
if any.
"""

from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from lavae_jax.convolution import Conv
from lavae_jax.types import Array

Norm = Literal["batch", "none"]

leaky_relu = partial(nn.leaky_relu, negative_slope=0.01)


def space_to_depth(x: Array, block: int) -> Array:
    """Maps [B, H, W, C] to [B, H / block, W / block, block² C]."""
    num_images, height, width, channels = x.shape
    rows, columns = height // block, width // block
    x = x.reshape(num_images, rows, block, columns, block, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(num_images, rows, columns, block**2 * channels)


def depth_to_space(x: Array, block: int) -> Array:
    """Maps [B, H, W, block² C] to [B, block H, block W, C]; undoes `space_to_depth`."""
    num_images, height, width, depth = x.shape
    channels = depth // block**2
    x = x.reshape(num_images, height, width, block, block, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(num_images, height * block, width * block, channels)


class BatchNorm(nn.Module):
    """Batch normalisation whose statistics are exact for masks and many devices.

    Sums and counts are added over devices before dividing, so each device weighs as
    much as it has valid rows. A batch without any valid row leaves the running
    statistics as they are; `momentum` is the share of them kept per step.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool, valid: Array | None = None) -> Array:
        """Normalises x [A, ..., C] over all axes but the last; `valid` is [A] bool.

        The result has the dtype of x; intermediate values are float32.
        """
        dtype, x = x.dtype, x.astype(jnp.float32)
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        lift = (None,) * (x.ndim - 1)
        if not train:
            batch_mean, batch_var = mean.value, var.value
        else:
            rows = jnp.ones(x.shape[0], bool) if valid is None else valid
            weight = rows.astype(x.dtype).reshape(-1, *([1] * (x.ndim - 1)))
            axes = tuple(range(x.ndim - 1))
            per_row = x[0, ..., 0].size
            sums = (
                rows.sum().astype(x.dtype) * per_row,
                (x * weight).sum(axes),
                (x**2 * weight).sum(axes),
            )
            if self.axis_name is not None and not self.is_initializing():
                sums = lax.psum(sums, self.axis_name)
            count = jnp.maximum(sums[0], 1)
            batch_mean = sums[1] / count
            batch_var = jnp.maximum(sums[2] / count - batch_mean**2, 0)
            if not self.is_initializing():
                keep = jnp.where(sums[0] > 0, self.momentum, 1.0)
                mean.value = keep * mean.value + (1 - keep) * batch_mean
                var.value = keep * var.value + (1 - keep) * batch_var
        gain = scale * lax.rsqrt(batch_var + self.epsilon)
        return ((x - batch_mean[lift]) * gain[lift] + bias[lift]).astype(dtype)


class ConvBlock(nn.Module):
    """3×3 convolution, leaky ReLU, batch normalisation, in the paper's order."""

    channels: int
    norm: Norm = "batch"
    axis_name: str | None = None
    zero_init: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool, valid: Array | None = None) -> Array:
        """Maps [A, H, W, C] to [A, H, W, channels]."""
        kernel_init = (
            nn.initializers.zeros if self.zero_init else nn.linear.default_kernel_init
        )
        conv = Conv(self.channels, (3, 3), kernel_init=kernel_init, dtype=self.dtype)
        x = leaky_relu(conv(x))
        if self.norm == "batch":
            x = BatchNorm(axis_name=self.axis_name)(x, train, valid)
        return x


class ResidualBlock(nn.Module):
    """Two convolutional layers around a skip connection.

    Without normalisation the second layer starts at zero, so that the block starts as
    the identity and deep stacks keep their scale.
    """

    channels: int
    norm: Norm = "batch"
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool, valid: Array | None = None) -> Array:
        """Maps [A, H, W, C] to [A, H, W, channels]."""
        x = x.astype(self.dtype)
        block = partial(
            ConvBlock, self.channels, self.norm, self.axis_name, dtype=self.dtype
        )
        y = block()(x, train, valid)
        y = block(zero_init=self.norm == "none")(y, train, valid)
        if x.shape[-1] != self.channels:
            x = Conv(self.channels, (1, 1), dtype=self.dtype)(x)
        return x + y


class Trunk(nn.Module):
    """Residual network with 4 blocks of 2 convolutions, the same for h_loc and h_app.

    A `stem_stride` of 1 works on every pixel; 2 folds 2×2 pixels into channels first,
    at a quarter of the cost and twice the receptive field. Where it does not divide the
    sides of an image, black pixels are added at the bottom and on the right.
    """

    channels: int = 48
    norm: Norm = "batch"
    stem_stride: int = 1
    axis_name: str | None = None
    num_blocks: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, ⌈H / stride⌉, ⌈W / stride⌉, channels]."""
        rows, columns = (-size % self.stem_stride for size in x.shape[1:3])
        x = jnp.pad(x, [(0, 0), (0, rows), (0, columns), (0, 0)])
        x = space_to_depth(x, self.stem_stride)
        block = partial(
            ResidualBlock, self.channels, self.norm, self.axis_name, self.dtype
        )
        for _ in range(self.num_blocks):
            x = block()(x, train)
        return x

    def per_pixel(self, maps: Array, size: tuple[int, int]) -> Array:
        """Unfolds maps [B, ⌈H / stride⌉, ⌈W / stride⌉, F] for images of a `size` H, W.

        Returns:
            [B, H, W, F / stride²].
        """
        height, width = size
        return depth_to_space(maps, self.stem_stride)[:, :height, :width]
