"""The distributions of the paper's equations, from distrax where it can be imported.

distrax imports TensorFlow Probability, which uses names that JAX is about to remove.
Where such a name is missing, `lavae_jax.plain_distributions` takes their place: it has
as much of these classes as this library calls, with the same values up to rounding.
"""

import warnings

try:
    with warnings.catch_warnings():
        # A deprecated name is of no concern to a user here, also not under `-W error`.
        warnings.simplefilter("ignore", DeprecationWarning)
        from distrax import Bernoulli, Categorical, MultivariateNormalDiag
except (ImportError, AttributeError):
    from lavae_jax.plain_distributions import (
        Bernoulli,
        Categorical,
        MultivariateNormalDiag,
    )

__all__ = ["Bernoulli", "Categorical", "MultivariateNormalDiag"]
