"""Scenes whose objects touch, made of two others, to train h_loc on.

Where few objects lie on a large canvas they rarely touch, and two that do, the more so
in one colour, are what is most often seen as one. But λ is a sum over objects (Eq. 4):
where no pixels overlap, the sum of two scenes is a scene again, and its objects are
where those of the two are. So one scene is moved until it touches the other.

No scene is made that has more objects than those it is made of may have. How many they
have is what the model itself says: two objects that it takes for one are moved as one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax.types import Array


class Placed(NamedTuple):
    """Images and where their objects are.

    Attributes:
        x: binary images, [B, H, W, C].
        centres: [B, N, 2], row and column in pixels.
        valid: [B, N] bool, which of the centres are those of objects.
    """

    x: Array
    centres: Array
    valid: Array


def _correlation(a: Array, b: Array) -> Array:
    """Σ_p a[p + shift] b[p] at every shift of b, [2H, 2W]; negative shifts wrap."""
    size = tuple(2 * length for length in a.shape)
    spectrum = jnp.fft.rfft2(a, size) * jnp.conj(jnp.fft.rfft2(b, size))
    return jnp.fft.irfft2(spectrum, size)


def touching_shifts(lit: Array, other: Array) -> Array:
    """Marks the shifts of one mask with which it touches another.

    Args:
        lit: the pixels of the one that stays, [H, W], 0 or 1.
        other: the pixels of the one that is moved, [H, W], 0 or 1.

    Returns:
        [2H, 2W] bool, at row r and column c for a shift by r rows down and c columns
        to the right, or by r - 2H and c - 2W from H and W on: whether all pixels stay
        on the canvas, none falls on a lit one, and one at least is among the eight
        neighbours of one.

    >>> import jax.numpy as jnp
    >>> from lavae_jax import touching
    >>> lit = jnp.array([[1.0, 0.0, 0.0, 0.0]])
    >>> other = jnp.array([[0.0, 0.0, 0.0, 1.0]])
    >>> shifts = touching.touching_shifts(lit, other)
    >>> [tuple(shift) for shift in jnp.argwhere(shifts).tolist()]  # 2 to the left
    [(0, 6)]
    """
    near = lax.reduce_window(lit, 0.0, lax.max, (3, 3), (1, 1), "SAME")
    inside = _correlation(jnp.ones_like(lit), other) > other.sum() - 0.5
    return (_correlation(lit, other) < 0.5) & (_correlation(near, other) > 0.5) & inside


def make_touch(scenes: Placed, others: Placed, keys: Array) -> tuple[Placed, Array]:
    """Adds to each scene an object that touches one of its own, where it may have one.

    The object is that of a scene with one alone, drawn at random; its shift is uniform
    over those of `touching_shifts`. A scene that has none, or already as many objects
    as any, stays as it is.

    Args:
        scenes: [B, ...].
        others: [A, ...], scenes to draw from, such as all devices' ones.
        keys: [B], one per scene.

    Returns:
        The scenes, with N centres more than before, and [B] bool: to which one was
        added.
    """
    height, width = scenes.x.shape[1:3]
    counts = others.valid.sum(axis=1)
    single = jnp.where(counts == 1, 0.0, -jnp.inf)

    def one(scene, key):
        key_partner, key_shift = jax.random.split(key)
        index = jax.random.categorical(key_partner, single)
        partner = jax.tree.map(lambda leaf: leaf[index], others)
        shifts = touching_shifts(scene.x.max(axis=-1), partner.x.max(axis=-1))
        drawn = jax.random.categorical(
            key_shift, jnp.where(shifts, 0.0, -jnp.inf).reshape(-1)
        )
        down, right = drawn // (2 * width), drawn % (2 * width)
        shift = jnp.stack(
            [
                jnp.where(down < height, down, down - 2 * height),
                jnp.where(right < width, right, right - 2 * width),
            ]
        )
        added = shifts.any() & (counts[index] == 1)
        added &= scene.valid.sum() < counts.max()
        moved = jnp.roll(partner.x, shift, axis=(0, 1))
        centres = partner.centres + shift[None].astype(partner.centres.dtype)
        joined = Placed(
            x=jnp.where(added, scene.x + moved, scene.x),
            centres=jnp.concatenate([scene.centres, centres]),
            valid=jnp.concatenate([scene.valid, partner.valid & added]),
        )
        return joined, added

    return jax.vmap(one)(scenes, keys)
