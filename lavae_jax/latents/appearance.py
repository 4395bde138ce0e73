"""The appearance of each object: Eq. 9 and 10."""

import jax
import jax.numpy as jnp

from lavae_jax import distributions
from lavae_jax.types import Appearance, Array

LOGVAR_LIMIT = 8.0
"""log σ² stays above minus this limit, where standard deviations are 0.02."""


def bounded(logvar: Array, upper: float = LOGVAR_LIMIT) -> Array:
    """Limits log σ² smoothly to the range from -LOGVAR_LIMIT to `upper`.

    One outlier among the objects of a batch would otherwise overflow exp(log σ²) and
    end the training.
    """
    limit = jnp.where(logvar < 0, LOGVAR_LIMIT, upper)
    return limit * jnp.tanh(logvar / limit)


def from_outputs(h_app: Array, mean_limit: float, logvar_limit: float) -> Appearance:
    """Computes the parameters of Eq. 9 from the outputs of h_app.

    Where objects are closer than any in training, outputs can be far off: means of
    hundreds have been seen. They are compressed so that such an object costs hundreds
    of nats, not hundreds of thousands. Means within the limit stay as they are.

    Args:
        h_app: [B, M, 2L] means, then log-variances, without limits.
        mean_limit: means beyond ± this grow like a logarithm.
        logvar_limit: the largest log σ².

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import appearance
    >>> h_app = jnp.array([[[-0.5, 700.0, -1e3, 1e3]]])
    >>> q = appearance.from_outputs(h_app, mean_limit=5.0, logvar_limit=1.0)
    >>> print(q.mu.round(2), q.logvar.round(2))  # of two dimensions
    [[[-0.5  11.55]]] [[[-8.  1.]]]
    """
    mu, logvar = jnp.split(h_app, 2, axis=-1)
    excess = jnp.maximum(jnp.abs(mu) - mean_limit, 0)
    mu = jnp.clip(mu, -mean_limit, mean_limit) + jnp.sign(mu) * jnp.log1p(excess)
    return Appearance(mu, bounded(logvar, upper=logvar_limit))


def posterior(appearance: Appearance) -> distributions.MultivariateNormalDiag:
    """Returns q(z_app | z_loc, x), Eq. 10: batch shape [B, M], event shape [L]."""
    return distributions.MultivariateNormalDiag(
        appearance.mu, jnp.exp(0.5 * appearance.logvar)
    )


def prior(app_dim: int) -> distributions.MultivariateNormalDiag:
    """Returns p(z_app) = N(0, I_L): event shape [L]."""
    return distributions.MultivariateNormalDiag(
        jnp.zeros(app_dim, jnp.float32), jnp.ones(app_dim, jnp.float32)
    )


def draw(appearance: Appearance, keys: Array) -> Array:
    """Draws z_app [B, M, L] by reparameterisation.

    There is one key per image, [B], so that draws do not depend on the batch.
    """
    shape, dtype = appearance.mu.shape[1:], appearance.mu.dtype
    noise = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
    return appearance.mu + jnp.exp(0.5 * appearance.logvar) * noise


def log_ratio(appearance: Appearance, z: Array) -> Array:
    """Computes log p(z) − log q(z) of draws z [..., L] from q: nats, [...]."""
    log_p = prior(z.shape[-1]).log_prob(z)
    return log_p - posterior(appearance).log_prob(z)


def kl(appearance: Appearance) -> Array:
    """Computes KL(q(z_app^i | z_loc^i, x) ‖ N(0, I)) in nats, [B, M], 0 if inactive."""
    return posterior(appearance).kl_divergence(prior(appearance.mu.shape[-1]))
