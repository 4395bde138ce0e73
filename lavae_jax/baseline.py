"""Appendix B, baseline: a fully convolutional β-VAE, which has no objects."""

from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from lavae_jax import likelihood
from lavae_jax.blocks import (
    BatchNorm,
    ConvBlock,
    Norm,
    ResidualBlock,
    depth_to_space,
    leaky_relu,
)
from lavae_jax.latents import appearance as appearances
from lavae_jax.networks import head_init
from lavae_jax.types import Appearance, Array, Variables

CELL = 8
"""Pixels per row and column of a latent cell: 64 pixels give the paper's 8×8 cells."""

NUM_BLOCKS = 4
"""Residual blocks of the encoder, and of the decoder."""

Upsampling = Literal["bilinear", "shuffle"]


class BaselineTerms(NamedTuple):
    """The terms of the ELBO per image, nats, each [B]."""

    log_px: Array
    kl: Array

    @property
    def elbo(self) -> Array:
        """Returns the bound, log p(x | z) − KL, [B]."""
        return self.log_px - self.kl


class Encoder(nn.Module):
    """A strided convolution, 4 residual blocks, and a head with [μ, log σ²] per cell.

    A strided convolution after each of the first blocks halves the resolution until a
    site is a latent cell: after the first two in the paper. Attributes are those of
    `BaselineVAE`.
    """

    latent_channels: int
    channels: int
    norm: Norm
    stem_stride: int
    resample_size: int
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, H / CELL, W / CELL, 2 latent_channels]."""
        stride, side = (self.stem_stride,) * 2, (2 * self.stem_stride,) * 2
        conv = partial(nn.Conv, self.channels, dtype=self.dtype)
        block = partial(
            ResidualBlock, self.channels, self.norm, self.axis_name, self.dtype
        )
        x = leaky_relu(conv(side, stride)(x))
        if self.norm == "batch":
            x = BatchNorm(axis_name=self.axis_name)(x, train)
        for index in range(NUM_BLOCKS):
            x = block()(x, train)
            if self.stem_stride << index < CELL:
                x = conv((self.resample_size,) * 2, (2, 2))(x)
        head = nn.Conv(
            2 * self.latent_channels, (3, 3), kernel_init=head_init, dtype=jnp.float32
        )
        return head(x)


class Decoder(nn.Module):
    """The encoder in reverse, with transposed convolutions for its strided ones.

    The last upsampling is bilinear and followed by ordinary convolutions, as in the
    paper, or rearranges the channels of a last convolution into pixels. Attributes are
    those of `BaselineVAE`.
    """

    image_channels: int
    channels: int
    norm: Norm
    stem_stride: int
    resample_size: int
    upsampling: Upsampling
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, z: Array, train: bool) -> Array:
        """Maps [B, H / CELL, W / CELL, latent_channels] to [B, H, W, C] in [0, 1]."""
        shared = (self.channels, self.norm, self.axis_name)
        layer = partial(ConvBlock, *shared, dtype=self.dtype)
        block = partial(ResidualBlock, *shared, self.dtype)
        x = layer()(z, train)
        for index in reversed(range(NUM_BLOCKS)):
            if self.stem_stride << index < CELL:
                side = (self.resample_size,) * 2
                x = nn.ConvTranspose(self.channels, side, (2, 2), dtype=self.dtype)(x)
            x = block()(x, train)
        factor = 1
        if self.upsampling == "shuffle":
            factor = self.stem_stride
        else:
            height, width = (size * self.stem_stride for size in x.shape[1:3])
            x = jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "bilinear")
            x = layer()(x, train)
        x = nn.Conv(
            factor**2 * self.image_channels,
            (3, 3),
            bias_init=nn.initializers.constant(-3.0),  # images start dark
            dtype=jnp.float32,
        )(x)
        return nn.sigmoid(depth_to_space(x, factor))


class BaselineVAE(nn.Module):
    """The baseline of Table 1: its latent variables are a grid, not a set of objects.

    Attributes:
        image_shape: (H, W, C); H and W are multiples of `CELL`.
        latent_channels: latent variables per cell, 16 in the paper.
        channels: features of the convolutions.
        norm: "batch" as in the paper, or "none".
        stem_stride: pixels per row and column of the first block's maps: 2 in the
            paper, 4 or 8 for a fraction of its cost.
        resample_size: side of the strided and transposed convolutions' kernels.
        upsampling: how the last maps become pixels, see `Decoder`.
        epsilon: ε, keeps pixel means inside [ε, 1 − ε].
        axis_name: mapped axis of devices, if any.
        dtype: the type that layers compute in.
    """

    image_shape: tuple[int, int, int]
    latent_channels: int = 16
    channels: int = 64
    norm: Norm = "batch"
    stem_stride: int = 2
    resample_size: int = 4
    upsampling: Upsampling = "bilinear"
    epsilon: float = 1e-6
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes encoder and decoder."""
        shared = dict(
            channels=self.channels,
            norm=self.norm,
            stem_stride=self.stem_stride,
            resample_size=self.resample_size,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        self.encoder = Encoder(self.latent_channels, **shared)
        self.decoder = Decoder(
            self.image_shape[2], upsampling=self.upsampling, **shared
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Returns the (rows, columns, channels) of the latent variables."""
        height, width, _ = self.image_shape
        return height // CELL, width // CELL, self.latent_channels

    @property
    def latent_dim(self) -> int:
        """Returns d_VAE, which is 1024 in the paper."""
        rows, columns, channels = self.latent_shape
        return rows * columns * channels

    @property
    def is_binary(self) -> bool:
        """Tells that the pixels of images are 0 or 1."""
        return True

    def noise(self) -> float:
        """Returns ε, as `LAVAE.noise` does."""
        return self.epsilon

    def posterior(self, x: Array, train: bool = False) -> Appearance:
        """Infers the parameters of q(z | x), each [B, d_VAE], from x [B, H, W, C]."""
        mu, logvar = jnp.split(self.encoder(x, train), 2, axis=-1)
        mu, logvar = (a.reshape(x.shape[0], -1) for a in (mu, logvar))
        return Appearance(mu, appearances.bounded(logvar))

    def canvas(self, z: Array, train: bool = False) -> Array:
        """Decodes z [B, d_VAE] to pixel means before ε, [B, H, W, C]."""
        return self.decoder(z.reshape(-1, *self.latent_shape), train)

    def log_likelihood(self, x: Array, canvas: Array) -> Array:
        """Computes log p(x | z) by Eq. 12, nats per image, [B]."""
        return likelihood.log_likelihood(x, canvas, self.epsilon).sum(axis=(1, 2, 3))

    def __call__(self, x: Array, train: bool = False) -> Array:
        """Reconstructs x [B, H, W, C] from the mean of q(z | x), before ε."""
        return self.canvas(self.posterior(x, train).mu, train)


def elbo(
    model: BaselineVAE, x: Array, keys: Array, train: bool = False
) -> BaselineTerms:
    """Estimates the ELBO's terms, [B] each, by one draw of z; the KL is analytic.

    The model is bound to its variables; x is [B, H, W, C], with one key per image.
    """
    q = model.posterior(x, train)
    canvas = model.canvas(appearances.draw(q, keys), train)
    return BaselineTerms(model.log_likelihood(x, canvas), appearances.kl(q))


def log_weights(
    model: BaselineVAE, variables: Variables, x: Array, keys: Array, num_samples: int
) -> Array:
    """Computes log weights log p(x | z) + log p(z) − log q(z | x) of draws z ~ q.

    Arguments and result are those of `objectives.log_weights`: [K, B], nats, with
    samples drawn one after the other.
    """
    parameters = model.bind(variables).posterior(x)
    q, p = appearances.posterior(parameters), appearances.prior(model.latent_dim)

    def one_sample(index):
        # It is bound again: no module may be used across JAX's transformations.
        bound = model.bind(variables)
        sample_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        z = appearances.draw(parameters, sample_keys)
        log_px = bound.log_likelihood(x, bound.canvas(z))
        return log_px + p.log_prob(z) - q.log_prob(z)

    return lax.map(one_sample, jnp.arange(num_samples))


def reconstruct(model: BaselineVAE, variables: Variables, x: Array) -> Array:
    """Paints the mean of q(z | x): pixel means, [B, H, W, C]."""
    return likelihood.pixel_mean(model.apply(variables, x), model.epsilon)


def generate(model: BaselineVAE, variables: Variables, keys: Array) -> Array:
    """Paints samples from the prior, one per key: pixel means, [B, H, W, C]."""
    shape = (model.latent_dim,)
    z = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
    return likelihood.pixel_mean(model.bind(variables).canvas(z), model.epsilon)
