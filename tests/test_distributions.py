"""The plain distributions equal distrax's, and serve where that can't be imported.

They are compared with `lavae_jax.distributions`, which is distrax where that can be
imported.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax import distributions
from lavae_jax import plain_distributions as plain
from tests.commands import printed

# distrax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(4, 3, 2, 5)).astype(np.float32)
PROBS = RNG.uniform(0.1, 0.9, size=(6, 7)).astype(np.float32)
LOGITS = RNG.normal(0, 5, size=(6, 7)).astype(np.float32)

# This removes a name that JAX is about to remove and TensorFlow Probability uses.
REMOVED = """
import jax.core

deprecated = jax.core.__getattr__
vars(jax.core).pop("pytype_aval_mappings", None)

def without_the_name(name):
    if name == "pytype_aval_mappings":
        raise AttributeError(name)
    return deprecated(name)

jax.core.__getattr__ = without_the_name
"""

FIGURES = """
import json
import jax
import lavae_jax
from lavae_jax import distributions
from tests import tiny_models

model = tiny_models.tiny_model(exclusion_radius=1, count_threshold=6.0)
variables = tiny_models.random_variables(model)
images = tiny_models.binary_images(model, 4)
key = jax.random.key(0)
bound = lavae_jax.log_likelihood_bound(model, variables, images, key, num_samples=3)
print(json.dumps({
    "source": distributions.Bernoulli.__module__.split(".")[0],
    "samples": lavae_jax.generate(model, variables, key, 5).sum((1, 2, 3)).tolist(),
    "n": lavae_jax.infer(model, variables, images).n.tolist(),
    "bound": bound.tolist(),
}))
"""


def _value_and_gradient(log_prob, parameters):
    return jax.jit(jax.value_and_grad(lambda p: log_prob(p).sum()))(parameters)


def _assert_same(function, parameters, tolerance=1e-5):
    """Asserts that a function has the same value and gradient for both sources."""
    ours, theirs = (
        _value_and_gradient(lambda p, source=source: function(source, p), parameters)
        for source in (plain, distributions)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance),
        ours,
        theirs,
    )


def test_bernoulli():
    """Log-probabilities and their gradients are those of distrax."""
    x = (PROBS > 0.4).astype(np.float32)
    _assert_same(lambda source, p: source.Bernoulli(probs=p).log_prob(x), PROBS)


@pytest.mark.parametrize("value", [np.array([0, 6, 3, 2, 1, 5]), np.array(4)])
def test_categorical(value):
    """Log-probabilities and their gradients are those of distrax."""
    _assert_same(lambda source, p: source.Categorical(logits=p).log_prob(value), LOGITS)


@pytest.mark.parametrize("source", [plain, distributions])
def test_categorical_outside(source):
    """Values outside the categories or of logit −∞ have probability 0, without NaN."""
    logits = jnp.array([0.0, -jnp.inf, 0.0])
    log_p = source.Categorical(logits=logits).log_prob(jnp.array([-1, 0, 1, 2, 3]))
    expected = [-np.inf, -np.log(2), -np.inf, -np.log(2), -np.inf]
    np.testing.assert_allclose(log_p, expected, rtol=1e-6)


def test_draws():
    """The same keys give the same draws, bit by bit."""
    for seed in range(20):
        key = jax.random.key(seed)
        ours, theirs = (
            source.Categorical(logits=LOGITS).sample(seed=key)
            for source in (plain, distributions)
        )
        np.testing.assert_array_equal(ours, theirs)


def test_normal():
    """Densities, divergences and their gradients are those of distrax."""
    loc, scale, other, value = NORMAL[0], np.exp(NORMAL[1]), NORMAL[2], NORMAL[3]

    def log_prob(source, p):
        return source.MultivariateNormalDiag(*p).log_prob(value)

    def divergence(source, p):
        q = source.MultivariateNormalDiag(*p)
        standard = source.MultivariateNormalDiag(jnp.zeros(5), jnp.ones(5))
        wide = source.MultivariateNormalDiag(other, jnp.full_like(other, 2.0))
        return q.kl_divergence(standard) + q.kl_divergence(wide)

    _assert_same(log_prob, (loc, scale), 1e-4)
    _assert_same(divergence, (loc, scale), 1e-4)


def test_without_a_removed_name(capsys):
    """The library gives the same results once JAX has removed what distrax needs.

    The name is taken away, in a process, before anything is imported.
    """
    exec(FIGURES, {})
    theirs = json.loads(capsys.readouterr().out)
    ours = json.loads(printed(REMOVED + FIGURES))
    assert ours.pop("source") == "lavae_jax"
    assert theirs.pop("source") == distributions.Bernoulli.__module__.split(".")[0]
    for name in ("bound", "samples"):
        assert ours.pop(name) == pytest.approx(theirs.pop(name), rel=1e-4)
    assert ours == theirs
