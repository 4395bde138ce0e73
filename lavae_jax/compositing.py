"""Eq. 4: the canvas is the sum of the sprites, each convolved with its location.

The sum has three forms. `composite_conv` is the equation as it stands and the
reference for the others; `composite_fft` computes it by the convolution theorem, which
is far faster than `lax.conv` on a CPU; `place` needs hard locations and no convolution.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax.types import Array, yx_of

Kind = Literal["sum", "alpha"]
"""Whether the sum of sprites is the image, as in the paper, or see `blending`."""


def composite_conv(sprites: Array, maps: Array) -> Array:
    """Computes Eq. 4 by `lax.conv`, with one group per image.

    Args:
        sprites: [B, M, S, S, C], S odd.
        maps: [B, M, H, W], one-hot or relaxed locations.

    Returns:
        λ, [B, H, W, C]: Σ_i sprite_i ∗ map_i with the sprite's centre on the site,
        cut at the border.

    >>> import jax.numpy as jnp
    >>> from lavae_jax import compositing
    >>> sprites = jnp.arange(1.0, 10.0).reshape(1, 1, 3, 3, 1)
    >>> maps = jnp.zeros((1, 1, 4, 4)).at[0, 0, 1, 2].set(1.0)  # row 1, column 2
    >>> print(compositing.composite_conv(sprites, maps)[0, ..., 0].astype(int))
    [[0 1 2 3]
     [0 4 5 6]
     [0 7 8 9]
     [0 0 0 0]]
    """
    num_images, max_objects, side, _, channels = sprites.shape
    height, width = maps.shape[2:]
    # lax.conv correlates; a convolution needs the kernel flipped in both directions.
    kernels = sprites[:, :, ::-1, ::-1].transpose(2, 3, 1, 0, 4)
    kernels = kernels.reshape(side, side, max_objects, num_images * channels)
    inputs = maps.transpose(2, 3, 0, 1).reshape(
        1, height, width, num_images * max_objects
    )
    canvas = lax.conv_general_dilated(
        inputs,
        kernels,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=num_images,
    )
    return canvas.reshape(height, width, num_images, channels).transpose(2, 0, 1, 3)


def composite_fft(sprites: Array, maps: Array) -> Array:
    """Computes Eq. 4 by the convolution theorem, as `composite_conv` does."""
    side = sprites.shape[2]
    height, width = maps.shape[2:]
    shape = (height + side - 1, width + side - 1)
    spectrum = jnp.einsum(
        "bmyx,bmyxc->byxc",
        jnp.fft.rfft2(maps, s=shape, axes=(2, 3)),
        jnp.fft.rfft2(sprites, s=shape, axes=(2, 3)),
    )
    canvas = jnp.fft.irfft2(spectrum, s=shape, axes=(1, 2))
    r = side // 2
    return canvas[:, r : r + height, r : r + width]


def composite(sprites: Array, maps: Array) -> Array:
    """Computes Eq. 4 in the form that suits the platform; see `composite_conv`."""
    return lax.platform_dependent(
        sprites, maps, cpu=composite_fft, default=composite_conv
    )


def place(sprites: Array, sites: Array, height: int, width: int) -> Array:
    """Computes Eq. 4 for hard locations: adds each sprite to the canvas at its site.

    From sprites [B, M, S, S, C], zeros in inactive slots, and sites [B, M] int32 to λ,
    [B, H, W, C].
    """
    r = sprites.shape[2] // 2
    corners = yx_of(sites, width)
    dimensions = lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2, 3),
        inserted_window_dims=(),
        scatter_dims_to_operand_dims=(0, 1),
    )

    def one_image(corners, sprites):
        canvas = jnp.zeros(
            (height + 2 * r, width + 2 * r, sprites.shape[-1]), sprites.dtype
        )
        return lax.scatter_add(canvas, corners, sprites, dimensions)

    canvas = jax.vmap(one_image)(corners, sprites)
    return canvas[:, r : r + height, r : r + width]


def windows(images: Array, image: Array, sites: Array, side: int) -> Array:
    """Cuts the square window of odd side around each site, zeros beyond the border.

    `image` and `sites`, [A] int32, say which of the images [B, H, W, C] each window is
    cut from, and its centre. The result is [A, side, side, C].
    """
    r = side // 2
    width, channels = images.shape[2:]
    padded = jnp.pad(images, ((0, 0), (r, r), (r, r), (0, 0)))

    def cut(b, site):
        # All need one type: where 64-bit types are enabled, `image` may be int64.
        b, channel = b.astype(site.dtype), site.dtype.type(0)
        start = (b, site // width, site % width, channel)
        return lax.dynamic_slice(padded, start, (1, side, side, channels))[0]

    return jax.vmap(cut)(image, sites)
