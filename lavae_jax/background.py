"""What an image shows where no object is: black, one colour, or a smooth image.

The paper's background is black. A constant one is learned and the same for all images.
A smooth one is inferred for each image: a latent z_bg with the prior N(0, I) gives the
amplitudes of a few cosine waves.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lavae_jax.latents import appearance as appearances
from lavae_jax.networks import ResidualMLP, head_init
from lavae_jax.types import Appearance, Array

Kind = Literal["black", "constant", "smooth"]

_GRID, _WIDTH = 8, 128
_KEY = 2**31 - 1  # tells the keys of draws of the background from those of z_app


class ConstantBackground(nn.Module):
    """One learned value for each channel."""

    image_channels: int

    @nn.compact
    def __call__(self) -> Array:
        """Returns [1, 1, 1, C] in [0, 1]."""
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


Network = ConstantBackground | SmoothBackground
"""A background that is not black."""
