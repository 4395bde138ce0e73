"""Eq. 12: the distribution of pixels, which are independent given the canvas λ.

The paper's pixels are binary, and their distribution is Bernoulli. Pixels with many
values have a normal distribution around the canvas, or its discretised form: the
probability that a normal variable is rounded to the pixel's 8-bit value, whose nats can
be compared with those of other models of 8-bit images.
"""

import math
from typing import Literal

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import log_ndtr

from lavae_jax import distributions
from lavae_jax.types import Array

Kind = Literal["bernoulli", "gaussian", "discretised"]

FIRST_SIGMA = 0.3
"""Where a learned standard deviation of pixels starts: any image is likely then."""

LEAST_SIGMA = 0.01
"""A learned one stays above this: a density has no upper limit."""

_SIGMA_SPEED = 20.0  # a shift moves by about the learning rate in a step

_BIN = 1 / 255
"""Distance between the values of 8-bit pixels, which lie in 0 to 1 here."""


def learned_sigma(shift: Array) -> Array:
    """Returns σ for a parameter that starts at 0 and is trained like all others, []."""
    span = FIRST_SIGMA - LEAST_SIGMA
    return LEAST_SIGMA + span * jnp.exp(_SIGMA_SPEED * shift)


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


def log_likelihood(
    x: Array, canvas: Array, noise: Array | float, kind: Kind = "bernoulli"
) -> Array:
    """Computes log p(x | z) per pixel and channel, nats, [..., H, W, C].

    Args:
        x: images of the canvas's shape: binary ones for a Bernoulli distribution, else
            values in 0 to 1, which a discretised distribution rounds to 8 bits.
        canvas: λ.
        noise: ε of the Bernoulli distribution, else the standard deviation σ.
        kind: the distribution; a "gaussian" one has a density, not a probability.

    >>> import jax.numpy as jnp
    >>> from lavae_jax import likelihood
    >>> x = jnp.arange(256) / 255
    >>> log_p = likelihood.log_likelihood(x, jnp.full(256, 0.3), 0.2, "discretised")
    >>> round(float(jnp.exp(log_p).sum()), 4)  # probabilities of the 256 values
    1.0
    """
    if kind == "bernoulli":
        return distributions.Bernoulli(probs=pixel_mean(canvas, noise)).log_prob(x)
    if kind == "gaussian":
        return distributions.Normal(canvas, noise).log_prob(x)
    return _log_probability_of_bin(x, canvas, noise)


def _log_probability_of_bin(x: Array, canvas: Array, sigma: Array | float) -> Array:
    """Computes the log-probability that a normal variable is rounded to x.

    Values below 0 are rounded to 0, and values above 1 to 1.
    """
    x = jnp.round(x / _BIN) * _BIN
    half, distance = _BIN / 2, jnp.abs(x - canvas)
    # The difference of two lower tails keeps its digits far from the mean.
    near = log_ndtr((half - distance) / sigma)
    far = log_ndtr(-(half + distance) / sigma)
    inside = near + jnp.log(-jnp.expm1(far - near))
    lowest = log_ndtr((half - canvas) / sigma)
    highest = log_ndtr((canvas - 1 + half) / sigma)
    return jnp.where(x < half, lowest, jnp.where(x > 1 - half, highest, inside))


def bits_per_dimension(nats: Array | float, image_shape: tuple[int, ...]) -> Array:
    """Converts nats per image to bits per pixel and channel."""
    return nats / (math.log(2) * math.prod(image_shape))
