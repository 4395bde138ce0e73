"""The number of objects n: Eq. 2, Eq. 7 and f_count of Appendix B."""

import jax.numpy as jnp
from jax import lax

from lavae_jax import distributions
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

    >>> import jax.numpy as jnp
    >>> from jax import lax
    >>> from lavae_jax.latents import counts
    >>> a = jnp.zeros((1, 4, 4)).at[0, 0, 0].set(1.0)
    >>> print(counts.reduce_square(a, 3, lax.add, 0.0)[0].astype(int))
    [[1 1 0 0]
     [1 1 0 0]
     [0 0 0 0]
     [0 0 0 0]]
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

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import counts
    >>> h = jnp.array([[[3.0, 2.0, 1.0, 4.0]]])
    >>> counts.local_maxima(h).tolist()
    [[[True, False, False, True]]]
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

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import counts
    >>> h_loc = jnp.full((1, 8, 8), -10.0).at[0, [2, 5, 6], [2, 6, 0]].set(
    ...     jnp.array([20.0, 17.0, 3.0])
    ... )
    >>> counts.f_count(h_loc, threshold=16.0, max_objects=10).tolist()
    [2]
    """
    peaks = local_maxima(h_loc) & (h_loc > threshold)
    return jnp.minimum(peaks.sum(axis=(1, 2)), max_objects).astype(jnp.int32)


def active_slots(n: Array, max_objects: int) -> Array:
    """Slot i of an image is active when i < n: [B] int32 to [B, M] bool.

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import counts
    >>> counts.active_slots(jnp.array([2, 0]), max_objects=3).tolist()
    [[True, True, False], [False, False, False]]
    """
    return jnp.arange(max_objects)[None, :] < n[:, None]


def log_p_n(n: Array, prior_n_logits: Array) -> Array:
    """Eq. 2: log p(n), nats, [B]; n is [B] int32, a the softmax of [M + 1] logits.

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import counts
    >>> print(jnp.exp(counts.log_p_n(jnp.array([0, 3]), jnp.zeros(4))))
    [0.25 0.25]
    """
    return distributions.Categorical(logits=prior_n_logits).log_prob(n)
