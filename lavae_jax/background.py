"""What an image shows where no object is: black, one colour, or a smooth image.

The paper's background is black. A constant one is learned and the same for all images.
A smooth one is inferred for each image: a latent z_bg with the prior N(0, I) gives the
amplitudes of a few cosine waves.
"""

import math
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lavae_jax.latents import appearance as appearances
from lavae_jax.networks import ResidualMLP, head_init
from lavae_jax.types import Appearance, Array

Kind = Literal["black", "constant", "smooth"]

_GRID, _WIDTH = 8, 128
_KEY = 2**31 - 1  # tells the keys of draws of the background from those of z_app


class ConstantBackground(nn.Module):
    """One learned value for each channel."""

    image_channels: int

    @property
    def dim(self) -> int:
        """Returns the number of dimensions of z_bg, which is 0."""
        return 0

    def encode(self, x: Array) -> None:
        """Returns None, as there is no z_bg."""

    @nn.compact
    def decode(self, z: None, size: tuple[int, int]) -> Array:
        """Returns [1, 1, 1, C] in [0, 1], for images of any size."""
        shape = (1, 1, 1, self.image_channels)
        zeros = nn.initializers.zeros
        return nn.sigmoid(self.param("logits", zeros, shape, jnp.float32))


class SmoothBackground(nn.Module):
    """A smooth image for each input, of waves with up to `num_waves` − 1 half periods.

    The encoder sees the mean, the least and the largest value of each part of the
    image, of which there are 8×8 whatever the image's size is: of these a network can
    tell the background in spite of the objects before it. With `num_waves` = 1 the
    background has one colour.
    """

    image_channels: int
    dim: int
    num_waves: int

    def setup(self) -> None:
        """Makes encoder and decoder."""
        self.encoder = ResidualMLP(_WIDTH, 2 * self.dim, kernel_init=head_init)
        self.decoder = nn.Dense(
            self.num_waves**2 * self.image_channels, dtype=jnp.float32
        )

    def encode(self, x: Array) -> Appearance:
        """Computes the parameters of q(z_bg | x), [B, dim], from x [B, H, W, C]."""
        mu, logvar = jnp.split(self.encoder(_summary(x)), 2, axis=-1)
        return Appearance(mu, appearances.bounded(logvar))

    def decode(self, z: Array, size: tuple[int, int]) -> Array:
        """Maps z_bg [B, dim] to images [B, H, W, C] in [0, 1]."""
        shape = (len(z), self.num_waves, self.num_waves, self.image_channels)
        amplitudes = self.decoder(z).reshape(shape)
        rows, columns = (_waves(self.num_waves, side) for side in size)
        return nn.sigmoid(jnp.einsum("bijc,ih,jw->bhwc", amplitudes, rows, columns))


Network = ConstantBackground | SmoothBackground
"""A background that is not black."""


def posterior(network: Network | None, x: Array) -> Appearance | None:
    """Computes the parameters of q(z_bg | x), [B, dim]; None without z_bg."""
    return None if network is None else network.encode(x)


def paint(
    network: Network | None, z: Array | None, size: tuple[int, int]
) -> Array | None:
    """Paints what is behind the objects, [B or 1, H or 1, W or 1, C]; None if black."""
    return None if network is None else network.decode(z, size)


def of_large_images(
    network: Network | None, x: Array, sizes: Array, window: tuple[int, int]
) -> Array | None:
    """Infers the backgrounds of images larger than those that were trained on.

    It blends the backgrounds of overlapping windows of the size that was trained on,
    which are at most half a side apart.

    Args:
        network: what infers the background of a window; None for black.
        x: images [B, H, W, C], H and W no less than a window's.
        sizes: [B, 2] rows and columns of each image; the rest of x is a margin, and no
            window reaches into it, unless the image is smaller than a window.
        window: the rows and columns of a window.

    Returns:
        [B, H, W, C], arbitrary in the margin; None for black.
    """
    if network is None or not network.dim:
        behind = paint(network, None, window)
        return behind if behind is None else jnp.broadcast_to(behind, x.shape)
    if x.shape[1:3] == tuple(window):
        return paint(network, posterior(network, x).mu, window)
    corners = jax.vmap(partial(_corners, whole=x.shape[1:3], window=window))(sizes)
    shape = (*window, x.shape[-1])
    parts = jax.vmap(jax.vmap(partial(_cut, shape=shape), (None, 0)))(x, corners)
    flat = parts.reshape(-1, *shape)  # from [B, P, ...] for P windows
    painted = paint(network, posterior(network, flat).mu, window)
    blended = jax.vmap(partial(_blended, whole=x.shape[1:3]))
    return blended(painted.reshape(parts.shape), corners)


def _corners(size: Array, whole: tuple[int, int], window: tuple[int, int]) -> Array:
    """Returns the corners [P, 3] of windows that cover an image of a size [2].

    There are as many as would cover the `whole` with its margin.
    """
    starts = []
    for axis, (all_pixels, side) in enumerate(zip(whole, window, strict=True)):
        number = math.ceil(2 * (all_pixels - side) / side) + 1
        last = jnp.maximum(size[axis] - side, 0)
        starts.append(jnp.round(jnp.linspace(0, last, number)).astype(jnp.int32))
    rows, columns = (a.ravel() for a in jnp.meshgrid(*starts))
    return jnp.stack([rows, columns, jnp.zeros_like(rows)], axis=-1)


def _cut(image, corner, shape):
    return lax.dynamic_slice(image, corner, shape)


def _blended(parts: Array, corners: Array, whole: tuple[int, int]) -> Array:
    """Blends windows [P, h, w, C] at corners [P, 3] into one image, [H, W, C]."""
    # A pixel counts most in the windows of which it is near the middle.
    rows, columns = (
        1 - np.abs(np.linspace(-1, 1, side + 2)[1:-1]) for side in parts.shape[1:3]
    )
    weight = jnp.asarray(np.outer(rows, columns)[..., None], parts.dtype)

    def add(sums, part_and_corner):
        part, corner = part_and_corner
        part = jnp.concatenate([part * weight, weight], axis=-1)
        part = part + _cut(sums, corner, part.shape)
        return lax.dynamic_update_slice(sums, part, corner), None

    sums = jnp.zeros((*whole, parts.shape[-1] + 1), parts.dtype)
    sums, _ = lax.scan(add, sums, (parts, corners))
    return sums[..., :-1] / jnp.maximum(sums[..., -1:], jnp.finfo(parts.dtype).tiny)


def draw(background: Appearance | None, keys: Array) -> Array | None:
    """Draws z_bg [B, dim] from parameters [B, dim], or None from None.

    The keys [B] may be those that z_app is drawn with: the numbers are others.
    """
    if background is None:
        return None
    return appearances.draw(
        background, jax.vmap(jax.random.fold_in, (0, None))(keys, _KEY)
    )


def _summary(x: Array) -> Array:
    """Computes mean, least and largest value of 8×8 parts of images, [B, 192 · C].

    Images of less than 8 pixels have fewer parts.
    """

    def ranges(side):
        parts = np.array_split(np.arange(side), min(_GRID, side))
        return [slice(part[0], part[-1] + 1) for part in parts]

    parts = [
        summary(x[:, rows, columns], axis=(1, 2))
        for rows in ranges(x.shape[1])
        for columns in ranges(x.shape[2])
        for summary in (jnp.mean, jnp.min, jnp.max)
    ]
    return jnp.concatenate(parts, axis=-1)


def _waves(number: int, side: int) -> np.ndarray:
    """Returns the first cosine waves over a side, [number, side]."""
    centres = (np.arange(side) + 0.5) / side
    return np.cos(np.pi * np.arange(number)[:, None] * centres).astype(np.float32)
