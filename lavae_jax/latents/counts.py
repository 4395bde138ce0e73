"""The number of objects n: Eq. 2, Eq. 7 and f_count of Appendix B."""

import distrax
import jax.numpy as jnp
from jax import lax

from lavae_jax.types import Array


def reduce_square(a: Array, side: int, operation, init: float) -> Array:
    """Reduces the square around every point, one direction after the other.

    Args:
        a: [B, H, W].
        side: side of the square, odd.
        operation: `lax.add`, `lax.max` and the like.
        init: the operation's neutral element.

    Returns:
        [B, H, W].
    """
    for window in ((1, side, 1), (1, 1, side)):
        a = lax.reduce_window(a, init, operation, window, (1, 1, 1), "SAME")
    return a


def local_maxima(h: Array, side: int = 3) -> Array:
    """Marks the points that are the largest of their neighbourhood.

    Args:
        h: [B, H, W].
        side: side of the square neighbourhood, odd.

    Returns:
        [B, H, W] bool.
    """
    return h == reduce_square(h, side, lax.max, -jnp.inf)


def f_count(h_loc: Array, threshold: float, max_objects: int) -> Array:
    """f_count: the number of local maxima of h_loc above the threshold, at most M.

    Args:
        h_loc: location logits after γ, [B, H, W].
        threshold: 4γ in the paper.
        max_objects: M.

    Returns:
        n̂, [B] int32.
    """
    peaks = local_maxima(h_loc) & (h_loc > threshold)
    return jnp.minimum(peaks.sum(axis=(1, 2)), max_objects).astype(jnp.int32)


def active_slots(n: Array, max_objects: int) -> Array:
    """Slot i of an image is active when i < n: [B] int32 to [B, M] bool."""
    return jnp.arange(max_objects)[None, :] < n[:, None]


def log_p_n(n: Array, prior_n_logits: Array) -> Array:
    """Eq. 2: log p(n), nats, [B]; n is [B] int32, a the softmax of [M + 1] logits."""
    return distrax.Categorical(logits=prior_n_logits).log_prob(n)
