"""Eq. 12: independent Bernoulli pixels."""

import jax.numpy as jnp
from jax import lax

from lavae_jax import distributions
from lavae_jax.types import Array


def pixel_mean(canvas: Array, epsilon: Array | float) -> Array:
    """Turns the sum of sprites λ into Bernoulli means inside [ε, 1 − ε].

    λ exceeds 1 where sprites overlap and is 0 off every sprite. It is cut at 1 and
    mixed with a constant, ε + (1 − 2ε) λ. A plain clip would stop the gradient exactly
    at the pixels that are most wrong, so the gradient passes through the cut.

    Args:
        canvas: λ, [..., H, W, C], not negative.
        epsilon: ε, the least probability of either value of a pixel.

    Returns:
        [..., H, W, C].

    >>> import jax.numpy as jnp
    >>> from lavae_jax import likelihood
    >>> likelihood.pixel_mean(jnp.array([0.0, 0.5, 1.0, 2.0]), 0.25).tolist()
    [0.25, 0.5, 0.75, 0.75]
    """
    excess = lax.stop_gradient(jnp.maximum(canvas - 1, 0))
    return epsilon + (1 - 2 * epsilon) * (canvas - excess)


def log_likelihood(x: Array, canvas: Array, epsilon: Array | float) -> Array:
    """Computes log p(x | z) per pixel and channel, nats, [..., H, W, C].

    x are binary images, and the canvas is λ, of the same shape.
    """
    return distributions.Bernoulli(probs=pixel_mean(canvas, epsilon)).log_prob(x)
