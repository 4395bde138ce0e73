"""Four distributions in plain JAX, with the methods that this library calls.

They stand in for those of distrax where it can't be imported. Names, arguments and
values are the same. All densities are in nats.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import stats

from lavae_jax.types import Array


class Bernoulli(NamedTuple):
    """Independent draws of 0 or 1, with the probability `probs` of 1."""

    probs: Array

    def log_prob(self, value: Array) -> Array:
        """Returns the log-probability of values of the shape of `probs`."""
        return stats.bernoulli.logpmf(value, self.probs)


class Categorical(NamedTuple):
    """One of K categories with the logits [..., K], normalised or not."""

    logits: Array

    def log_prob(self, value: Array) -> Array:
        """Returns the log-probability of categories, −∞ outside 0 to K − 1."""
        log_p = jax.nn.log_softmax(self.logits)
        categories = jnp.arange(log_p.shape[-1])
        chosen = jnp.expand_dims(value, -1) == categories
        total = jnp.where(chosen, log_p, 0).sum(axis=-1)
        return jnp.where(chosen.any(axis=-1), total, -jnp.inf)

    def sample(self, *, seed: Array) -> Array:
        """Draws categories [...] with a key."""
        return jax.random.categorical(seed, jax.nn.log_softmax(self.logits))


class Normal(NamedTuple):
    """Independent normal numbers with means `loc` and standard deviations `scale`."""

    loc: Array
    scale: Array | float

    def log_prob(self, value: Array) -> Array:
        """Returns the log-density of values of the shape of `loc`."""
        return stats.norm.logpdf(value, self.loc, self.scale)


class MultivariateNormalDiag(NamedTuple):
    """A normal distribution over vectors of length L whose elements are independent.

    Means and standard deviations are [..., L].
    """

    loc: Array
    scale_diag: Array

    def log_prob(self, value: Array) -> Array:
        """Returns the log-density of vectors [..., L], [...]."""
        return stats.norm.logpdf(value, self.loc, self.scale_diag).sum(axis=-1)

    def kl_divergence(self, other: "MultivariateNormalDiag") -> Array:
        """Returns KL(self ‖ other) for another one whose shape broadcasts, [...]."""
        ratio = self.scale_diag / other.scale_diag
        distance = (self.loc - other.loc) / other.scale_diag
        terms = ratio**2 + distance**2 - 1 - 2 * jnp.log(ratio)
        return 0.5 * terms.sum(axis=-1)
