"""Appendix B: the networks that infer locations and appearances and paint sprites.

Each network comes in the paper's form and, where it pays on a small machine, in a
lighter one: a stride-2 stem for the trunks, an appearance network that looks at a
window around each drawn site, and a sprite decoder without convolutions. Layers compute
in the attribute `dtype`, and `axis_name` is the mapped axis of devices, if any.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lavae_jax import compositing, slots
from lavae_jax.blocks import (
    BatchNorm,
    ConvBlock,
    ResidualBlock,
    Trunk,
    leaky_relu,
)
from lavae_jax.convolution import Conv
from lavae_jax.types import Array, Locations

# Heads that give (μ, log σ²) start near the prior. From larger values the KL terms
# begin at hundreds of nats and take minutes to come down.
head_init = nn.initializers.normal(1e-3)

# The logit that sprites start at. If they started grey, the first steps would darken
# all of them alike, and shapes and colours would be learned far later; see TRIALS.md.
_DARK = -3.0


class LocationNet(nn.Module):
    """A trunk and a 3-layer convolutional network with one output per pixel.

    Attributes:
        trunk: a `Trunk`.
        hidden: channels of the first two of the three layers.
        output_scale: factor on the last layer, 1 in the paper.
    """

    trunk: Trunk
    hidden: int = 24
    output_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to location logits before γ, [B, H, W]."""
        trunk = self.trunk
        h = trunk(x, train)
        for _ in range(2):
            block = ConvBlock(
                self.hidden, trunk.norm, trunk.axis_name, dtype=trunk.dtype
            )
            h = block(h, train)
        head = Conv(
            trunk.stem_stride**2,
            (3, 3),
            kernel_init=nn.initializers.normal(1e-2),
            dtype=jnp.float32,
        )
        return self.output_scale * trunk.per_pixel(head(h), x.shape[1:3])[..., 0]


class AppearanceNet(nn.Module):
    """A trunk and one more convolution to 2L channels, read at the drawn sites (Eq. 9).

    The last convolution is 1×1, hence linear per site, and reading its output at z_loc
    is the same as reading the trunk's features there and applying it to M vectors. The
    map h_app with its 2L channels per pixel is never made. L is `app_dim`.
    """

    trunk: Trunk
    app_dim: int = 32

    def setup(self) -> None:
        """Makes the head."""
        self.head = nn.Dense(2 * self.app_dim, kernel_init=head_init, dtype=jnp.float32)

    def features(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to the features of every site, [B, D, F]."""
        h = self.trunk.per_pixel(self.trunk(x, train), x.shape[1:3])
        return h.reshape(h.shape[0], -1, h.shape[-1])

    def read(self, features: Array, locations: Locations, capacity: int) -> Array:
        """Reads [μ, log σ²] at each location: [B, M, 2L].

        With z_loc this is Σ_d z_d h_app[d], and without it h_app at the hard sites. All
        slots are read at once, so that `capacity` is not needed.
        """
        del capacity
        if locations.z_loc is None:
            return self.head(
                jnp.take_along_axis(features, locations.site[..., None], axis=1)
            )
        z_loc = locations.z_loc.astype(features.dtype)
        read = jnp.einsum(
            "bmd,bdf->bmf", z_loc, features, preferred_element_type=jnp.float32
        )
        return self.head(read)


class ResidualMLP(nn.Module):
    """Dense layers of one width with skip connections, and a linear output layer.

    `kernel_init` and `bias_init` initialise the output layer.
    """

    width: int
    num_outputs: int
    kernel_init: nn.initializers.Initializer = nn.linear.default_kernel_init
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [A, F] to [A, num_outputs]."""
        x = nn.gelu(nn.Dense(self.width, dtype=self.dtype)(x))
        for _ in range(2):
            x = x + nn.gelu(nn.Dense(self.width, dtype=self.dtype)(x))
        return nn.Dense(
            self.num_outputs,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=jnp.float32,
        )(x)


class GlimpseAppearanceNet(nn.Module):
    """h_app as a convolutional network that is evaluated at the drawn sites only.

    A dense network on the window around a site is a convolution with a kernel of the
    window's size followed by 1×1 convolutions. Its map over all sites is h_app; only
    the n values that are read are computed. It needs hard locations. The side of the
    window, `glimpse_size`, is odd. Of the last `site_channels` channels of an image,
    the network sees the site alone.
    """

    glimpse_size: int = 21
    width: int = 256
    app_dim: int = 32
    site_channels: int = 0
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the network on one window."""
        self.network = ResidualMLP(
            self.width, 2 * self.app_dim, kernel_init=head_init, dtype=self.dtype
        )

    def features(self, x: Array, train: bool) -> Array:
        """Returns the image itself, [B, H, W, C]: all work is done where it is read."""
        del train  # there are no batch statistics
        return x

    def read(self, features: Array, locations: Locations, capacity: int) -> Array:
        """Reads [μ, log σ²] at the hard sites of the active slots: [B, M, 2L].

        `capacity` is the size of the buffer of active slots, see `slots.map_active`.
        """

        def read_active(module, image, valid, sites):
            del valid  # rows do not interact

            def cut(channels, side):
                windows = compositing.windows(channels, image, sites, side)
                return windows.reshape(len(sites), -1)

            first = features.shape[-1] - module.site_channels
            seen = cut(features[..., :first], module.glimpse_size)
            if module.site_channels:
                seen = jnp.concatenate([seen, cut(features[..., first:], 1)], axis=1)
            return module.network(seen)

        site, active = locations.site, locations.active
        return slots.map_active(
            self, read_active, active, (site,), capacity, self.axis_name
        )


def _dark_start(num_channels: int, has_opacity: bool) -> nn.initializers.Initializer:
    """Returns an initialiser of the biases of sprites' logits, [C] or [S · S · C].

    With an opacity, the last channel, sprites start grey and transparent. If they
    started dark, they would learn to paint a dark background instead of becoming
    transparent there.
    """

    def start(key, shape, dtype):
        del key
        first = jnp.full(num_channels, _DARK, dtype)
        if has_opacity:
            first = first.at[:-1].set(0)
        return jnp.tile(first, shape[0] // num_channels)

    return start


class SpriteDecoder(nn.Module):
    """f_sprite as in Appendix B: dense, convolution, resize, 3 residual blocks.

    The map has `base_size` pixels per side, and `base_channels`, before the bilinear
    interpolation to `sprite_size`, S.
    """

    sprite_size: int
    image_channels: int
    channels: int = 48
    axis_name: str | None = None
    has_opacity: bool = False
    base_size: int = 7
    base_channels: int = 16
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z_app: Array, valid: Array, train: bool) -> Array:
        """Decodes appearances [A, L] to sprites in [0, 1], [A, S, S, C].

        Rows that are not `valid` ([A] bool) do not enter the batch statistics.
        """
        side, base = self.sprite_size, self.base_size
        num = z_app.shape[0]
        z_app = z_app.astype(self.dtype)
        shared = dict(axis_name=self.axis_name, dtype=self.dtype)
        h = nn.Dense(base**2 * self.base_channels, dtype=self.dtype)(z_app)
        h = BatchNorm(axis_name=self.axis_name)(leaky_relu(h), train, valid)
        h = h.reshape(num, base, base, self.base_channels)
        h = ConvBlock(self.channels, **shared)(h, train, valid)
        h = jax.image.resize(h, (num, side, side, self.channels), "bilinear")
        everywhere = jnp.broadcast_to(
            z_app[:, None, None, :], (num, side, side, z_app.shape[-1])
        )
        h = jnp.concatenate([h, everywhere], axis=-1)
        for _ in range(2):
            h = ResidualBlock(self.channels, **shared)(h, train, valid)
        # The last block has neither leaky ReLU nor batch norm; it starts as identity.
        conv = partial(Conv, self.channels, (3, 3), dtype=self.dtype)
        h = h + conv(kernel_init=nn.initializers.zeros)(conv()(h))
        start = _dark_start(self.image_channels, self.has_opacity)
        head = Conv(self.image_channels, (3, 3), bias_init=start, dtype=jnp.float32)
        return nn.sigmoid(head(h))


class MLPSpriteDecoder(nn.Module):
    """f_sprite as a dense network, which learns shapes faster per CPU second."""

    sprite_size: int
    image_channels: int
    width: int = 256
    has_opacity: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z_app: Array, valid: Array, train: bool) -> Array:
        """Decodes as `SpriteDecoder` does; there are no batch statistics."""
        del valid, train
        shape = (self.sprite_size, self.sprite_size, self.image_channels)
        start = _dark_start(self.image_channels, self.has_opacity)
        network = ResidualMLP(
            self.width, math.prod(shape), bias_init=start, dtype=self.dtype
        )
        return nn.sigmoid(network(z_app)).reshape(-1, *shape)
