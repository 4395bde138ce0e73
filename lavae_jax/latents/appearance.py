"""The appearance of each object: Eq. 9 and 10."""

import distrax
import jax
import jax.numpy as jnp

from lavae_jax.types import Appearance, Array

LOGVAR_LIMIT = 8.0
"""log σ² stays within ± this: standard deviations from 0.02 to 55."""


def bounded(logvar: Array) -> Array:
    """Bends log σ² smoothly into its limits.

    One outlier among the objects of a batch would otherwise overflow exp(log σ²) and
    end the training.

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import appearance
    >>> print(appearance.bounded(jnp.array([-1000.0, 0.0, 0.1])).round(3))
    [-8.   0.   0.1]
    """
    return LOGVAR_LIMIT * jnp.tanh(logvar / LOGVAR_LIMIT)


def posterior(appearance: Appearance) -> distrax.MultivariateNormalDiag:
    """q(z_app | z_loc, x), Eq. 10: batch shape [B, M], event shape [L].

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import appearance
    >>> from lavae_jax.types import Appearance
    >>> q = appearance.posterior(Appearance(jnp.ones((1, 3, 2)), jnp.zeros((1, 3, 2))))
    >>> q.batch_shape, q.event_shape
    ((1, 3), (2,))
    """
    return distrax.MultivariateNormalDiag(
        appearance.mu, jnp.exp(0.5 * appearance.logvar)
    )


def prior(app_dim: int) -> distrax.MultivariateNormalDiag:
    """p(z_app) = N(0, I_L): event shape [L].

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import appearance
    >>> p = appearance.prior(app_dim=32)
    >>> p.event_shape, float(p.mean().max())
    ((32,), 0.0)
    """
    return distrax.MultivariateNormalDiag(jnp.zeros(app_dim), jnp.ones(app_dim))


def draw(appearance: Appearance, keys: Array) -> Array:
    """Draws z_app by reparameterisation.

    Args:
        appearance: parameters, each [B, M, L].
        keys: [B] one key per image, so that draws do not depend on the batch.

    Returns:
        z_app, [B, M, L].

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import appearance
    >>> from lavae_jax.types import Appearance
    >>> keys = jax.random.split(jax.random.key(0), 5)
    >>> parameters = Appearance(jnp.ones((5, 3, 2)), jnp.full((5, 3, 2), -200.0))
    >>> z_app = appearance.draw(parameters, keys)
    >>> z_app.shape, bool((z_app == 1).all())  # next to no variance
    ((5, 3, 2), True)
    """
    shape = appearance.mu.shape[1:]
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    return appearance.mu + jnp.exp(0.5 * appearance.logvar) * noise


def kl(appearance: Appearance) -> Array:
    """KL(q(z_app^i | z_loc^i, x) ‖ N(0, I)) in nats, [B, M]; 0 where inactive.

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import appearance
    >>> from lavae_jax.types import Appearance
    >>> mu = jnp.array([[[2.0, 0.0], [0.0, 0.0]]])
    >>> appearance.kl(Appearance(mu, jnp.zeros((1, 2, 2)))).tolist()
    [[2.0, 0.0]]
    """
    return posterior(appearance).kl_divergence(prior(appearance.mu.shape[-1]))
