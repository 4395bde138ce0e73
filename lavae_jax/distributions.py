"""The distributions of the paper's equations, from distrax where it can be imported.

distrax imports TensorFlow Probability, which uses names that JAX is about to remove.
Where such a name is missing, `lavae_jax.plain_distributions` takes their place: it has
the methods of these classes that this library calls, equal up to rounding.
"""

import warnings

try:
    with warnings.catch_warnings():
        # Users can't act on a deprecated name in distrax, so it must not warn them.
        warnings.simplefilter("ignore", DeprecationWarning)
        from distrax import (
            Bernoulli,
            Categorical,
            MultivariateNormalDiag,
            Normal,
        )
except (ImportError, AttributeError):
    from lavae_jax.plain_distributions import (
        Bernoulli,
        Categorical,
        MultivariateNormalDiag,
        Normal,
    )

__all__ = ["Bernoulli", "Categorical", "MultivariateNormalDiag", "Normal"]
