"""Appendix B, training warm-up: an auxiliary VAE finds objects before LAVAE can.

This fully convolutional VAE is trained first. It spends its KL where there is
something to describe, so the map of its KL over the latent grid is a rough map of the
objects, which h_loc learns to imitate.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from lavae_jax import background, likelihood
from lavae_jax.blocks import ResidualBlock, depth_to_space, leaky_relu, space_to_depth
from lavae_jax.convolution import Conv
from lavae_jax.latents import appearance
from lavae_jax.latents.counts import local_maxima, reduce_square
from lavae_jax.model import LAVAE
from lavae_jax.networks import head_init
from lavae_jax.types import Appearance, Array

OBJECT_SIZE = 19
"""Pixels of the largest objects of multi-dSprites. The lengths below were found with
them, and are scaled for objects of another size."""

CELL = 6
"""Pixels per cell of the latent grid: 64 pixels give the paper's 11×11 cells."""

SMOOTHING, PEAK_WINDOW, CENTROID_WINDOW = 3.0, 13, 19
"""Lengths in pixels that `kl_peaks` uses."""

_EPSILON, _SIGMA = 1e-6, 0.05
"""Noise of pixels. If σ follows each image's error, images of few objects, which are
painted well, teach the most, and objects of little contrast are not found."""

_BACKGROUND_SCALE = 0.1  # of the Laplace distribution that a background is fitted by

PEAK_NATS = 1.0
"""A peak must exceed this. Some objects are under 2 nats, the background under 0.1."""


def scaled(length: float, object_size: int) -> float:
    """Scales a length, which was found with objects of 19 pixels, to this size."""
    return length * object_size / OBJECT_SIZE


def scaled_side(side: int, object_size: int) -> int:
    """Scales the side of a window, to the nearest odd number."""
    return 2 * max(round((scaled(side, object_size) - 1) / 2), 0) + 1


def cell_for(object_size: int) -> int:
    """Returns the pixels per cell that suit objects of this size, an even number."""
    return 2 * max(round(scaled(CELL, object_size) / 2), 1)


def _padding(size: int, cell: int) -> tuple[int, int]:
    """Returns the pixels to add on either side so that whole cells cover `size`."""
    missing = -size % cell
    return missing // 2, missing - missing // 2


class AuxiliaryVAE(nn.Module):
    """Fully convolutional VAE with an 11×11×8 latent for 64×64 images.

    Receptive fields are wide on purpose: a narrow encoder spreads one object's KL over
    several cells. A cell has an even number of pixels per row and column. `cell_for`
    scales it with the objects, so that a cell always holds the same share of one.

    In front of a background that is not black, the encoder sees images less their
    background and the decoder also paints an opacity, so that the latent grid need not
    describe what is no object.
    """

    image_channels: int
    latent_channels: int
    channels: int
    cell: int = CELL
    pixels: likelihood.Kind = "bernoulli"
    has_background: bool = False
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes encoder and decoder."""
        half, full = self.channels // 2, self.channels
        conv = partial(Conv, dtype=self.dtype)
        block = partial(ResidualBlock, norm="none", dtype=self.dtype)
        self.enc_fine = block(half)
        # An even kernel is centred on the cell; an odd one would shift the KL map.
        self.enc_down = conv(full, (4, 4), strides=(2, 2))
        self.enc_coarse = [block(full) for _ in range(2)]
        self.enc_head = Conv(
            2 * self.latent_channels, (1, 1), kernel_init=head_init, dtype=jnp.float32
        )
        self.dec_in = conv(full, (3, 3))
        self.dec_coarse = [block(full) for _ in range(2)]
        self.dec_up = conv(4 * half, (1, 1))
        self.dec_fine = conv(half, (3, 3))
        self.dec_head = Conv(
            (self.cell // 2) ** 2 * (self.image_channels + self.has_background),
            (3, 3),
            bias_init=nn.initializers.constant(-3.0),  # images start dark
            dtype=jnp.float32,
        )

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Maps images less their background, [B, H, W, C], to μ and log σ².

        Both are [B, rows, columns, latent_channels].
        """
        rows, columns = (_padding(size, self.cell) for size in x.shape[1:3])
        h = jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
        h = self.enc_fine(space_to_depth(h, self.cell // 2), train=True)
        h = leaky_relu(self.enc_down(h))
        for block in self.enc_coarse:
            h = block(h, train=True)
        mu, logvar = jnp.split(self.enc_head(h), 2, axis=-1)
        return mu, logvar

    def decode(self, z: Array, height: int, width: int) -> Array:
        """Maps [B, rows, columns, latent_channels] to pixels [B, H, W, C], in [0, 1].

        With a background there is an opacity too, [B, H, W, C + 1].
        """
        h = leaky_relu(self.dec_in(z))
        for block in self.dec_coarse:
            h = block(h, train=True)
        h = leaky_relu(depth_to_space(self.dec_up(h), 2))
        h = self.dec_head(leaky_relu(self.dec_fine(h)))
        means = nn.sigmoid(depth_to_space(h, self.cell // 2))
        (top, _), (left, _) = (_padding(size, self.cell) for size in (height, width))
        return means[:, top : top + height, left : left + width]

    def __call__(
        self, x: Array, keys: Array, behind: Array | float = 0.0
    ) -> tuple[Array, Array]:
        """Estimates the ELBO's terms by one draw: log p(x | z) and KL, nats, [B].

        `behind` is the background of x.
        """
        mu, logvar = self.encode(x - behind)
        z = appearance.draw(Appearance(mu, logvar), keys)
        means = self.decode(z, *x.shape[1:3])
        if self.has_background:
            opacity = means[..., -1:]
            means = opacity * means[..., :-1] + (1 - opacity) * behind
        noise = _EPSILON if self.pixels == "bernoulli" else _SIGMA
        log_px = likelihood.log_likelihood(x, means, noise, self.pixels)
        return log_px.sum(axis=(1, 2, 3)), _kl(mu, logvar).sum(axis=(1, 2))

    def kl_map(self, x: Array, behind: Array | float = 0.0) -> Array:
        """Computes the location-wise KL of each pixel, nats per cell, [B, H, W].

        It is the mean of `grid_map` over grids that begin at different pixels, or a
        peak's place would depend on where in its cell an object is. It is also the mean
        over the image and the image turned by 180°, or peaks may lie half a pixel off,
        and the colour of an object decides which pixel is nearest. f_sprite would then
        learn each object at several offsets.
        """
        x = x - behind
        both = self._mean_over_grids(jnp.concatenate([x, _turned(x)]))
        upright, turned = jnp.split(both, 2)
        kl_map = (upright + _turned(turned)) / 2
        if not self.has_background:
            return kl_map
        # Cells may also correct the background; objects are what exceeds that.
        return kl_map - jnp.median(kl_map, axis=(1, 2), keepdims=True)

    def _mean_over_grids(self, x: Array) -> Array:
        """Averages `grid_map` over grids that begin at different pixels, [B, H, W]."""
        (num_images, height, width, _), cell = x.shape, self.cell
        starts = range(0, cell, max(2, cell // 3))
        grids = [(row, column) for row in starts for column in starts]
        moved = [
            jnp.pad(x, ((0, 0), (r, cell - r), (c, cell - c), (0, 0))) for r, c in grids
        ]
        maps = self.grid_map(jnp.concatenate(moved))
        maps = maps.reshape(len(grids), num_images, *maps.shape[1:])
        return sum(
            kl[:, row : row + height, column : column + width]
            for kl, (row, column) in zip(maps, grids, strict=True)
        ) / len(grids)

    def grid_map(self, x: Array) -> Array:
        """Interpolates the KL of the cells of one grid bicubically, [B, H, W].

        x is an image less its background.
        """
        height, width = x.shape[1:3]
        cells = _kl(*self.encode(x))
        rows, columns = (self.cell * size for size in cells.shape[1:])
        pixels = jax.image.resize(cells, (x.shape[0], rows, columns), "cubic")
        (top, _), (left, _) = (_padding(size, self.cell) for size in (height, width))
        return pixels[:, top : top + height, left : left + width]


def background_loss(model: LAVAE, x: Array, keys: Array) -> tuple[Array, Array]:
    """Returns the background's loss per image, [B], and the background of x.

    The loss is the negative ELBO of Laplace-distributed pixels, but for a constant, as
    if there were no objects. The background that minimises it has the median of the
    pixels, so it is right where objects cover less than half of an image.

    Args:
        model: LAVAE, bound to its variables, with a background that is not black.
        x: images [B, H, W, C].
        keys: [B], for the draws of z_bg.
    """
    q = model.background_posterior(x)
    behind = model.background(background.draw(q, keys))
    distance = jnp.abs(x - behind).sum(axis=(1, 2, 3)) / _BACKGROUND_SCALE
    return distance + (0.0 if q is None else appearance.kl(q)), behind


def _turned(a):
    return a[:, ::-1, ::-1]  # by 180°


def _kl(mu: Array, logvar: Array) -> Array:
    return 0.5 * (mu**2 + jnp.exp(logvar) - logvar - 1).sum(axis=-1)


def smooth(a: Array, sigma: float) -> Array:
    """Blurs [B, H, W] with a Gaussian, σ in pixels."""
    radius = round(4 * sigma)
    offsets = jnp.arange(-radius, radius + 1, dtype=a.dtype)
    kernel = jnp.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    a = a[:, None]
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        a = lax.conv_general_dilated(a, kernel.reshape(shape), (1, 1), "SAME")
    return a[:, 0]


def centroids(a: Array, sites: Array, side: int) -> Array:
    """Finds centres of mass of a map [B, H, W] around sites [B, M].

    Each is that of a square window of odd side, or the map's centre where the window is
    empty. The result is [B, M, 2], row and column in pixels.
    """
    num_images, height, width = a.shape
    rows = jnp.arange(height, dtype=a.dtype)[None, :, None]
    columns = jnp.arange(width, dtype=a.dtype)[None, None, :]

    def mass(b):
        flat = reduce_square(b, side, lax.add, 0.0).reshape(num_images, -1)
        return jnp.take_along_axis(flat, sites, axis=1)

    total = mass(a)
    safe = jnp.where(total > 0, total, 1)
    centre = jnp.stack([mass(a * rows) / safe, mass(a * columns) / safe], axis=-1)
    middle = jnp.array([height // 2, width // 2], a.dtype)[None, None, :]
    return jnp.where((total > 0)[..., None], centre, middle)


def kl_peaks(
    kl_map: Array, max_objects: int, object_size: int = OBJECT_SIZE
) -> tuple[Array, Array]:
    """Finds rough positions of the objects: the peaks of the KL map.

    The map is smoothed (σ = 3 px); a peak is the largest value of its 13×13 window and
    above 1 nat; its position is the map's centroid in a 19×19 window, which is nearer
    to the object's centre than the peak itself. These lengths are for objects of 19
    pixels, and scaled for others.

    Returns:
        Positions [B, M, 2] in pixels of the M highest peaks, and [B, M] bool, false in
        the last places where there are fewer peaks.
    """
    smoothed = smooth(kl_map, scaled(SMOOTHING, object_size))
    window = scaled_side(PEAK_WINDOW, object_size)
    peaks = local_maxima(smoothed, window) & (smoothed > PEAK_NATS)
    heights = jnp.where(peaks, smoothed, -jnp.inf).reshape(kl_map.shape[0], -1)
    height, sites = lax.top_k(heights, max_objects)
    above = jnp.maximum(kl_map - PEAK_NATS, 0)
    window = scaled_side(CENTROID_WINDOW, object_size)
    return centroids(above, sites, window), jnp.isfinite(height)


def bumps(
    centres: Array, valid: Array, height: float, sigma: Array | float, size: tuple
) -> Array:
    """Makes maps [B, H, W] with a Gaussian bump on every valid centre.

    Centres are [B, M, 2], row and column; they and σ are in pixels. Every pixel has the
    value of the highest bump there.
    """

    def along(axis):
        offsets = jnp.arange(size[axis], dtype=centres.dtype)[None, None, :]
        return jnp.exp(-((centres[..., axis, None] - offsets) ** 2) / (2 * sigma**2))

    rows, columns = along(0) * valid[..., None].astype(centres.dtype), along(1)
    return height * (rows[:, :, :, None] * columns[:, :, None, :]).max(axis=1)
