"""Training with bfloat16 layers is close to float32, and float32 where it matters.

For random parameters, the outputs of a network are within 2% (root mean square), losses
within 5%, and the cosine of the gradients is above 0.95.
"""

import collections
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.configs import baseline as baseline_configs
from experiments.configs import dsprites
from experiments.run import build
from lavae_jax import baseline, blocks, networks
from lavae_jax.training import optimizer, schedules, step
from lavae_jax.training.setup import Setup
from lavae_jax.types import hard_locations
from lavae_jax.warmup import AuxiliaryVAE
from tests import tiny_models, tiny_steps

NUM, SHAPE, M = 6, (16, 16, 2), 3
X = (np.random.default_rng(0).uniform(size=(NUM, *SHAPE)) < 1 / 3).astype(np.float32)
Z = np.random.default_rng(1).normal(size=(NUM * M, 4)).astype(np.float32)
VALID = np.arange(NUM * M) % 4 > 0
KEYS = tiny_models.image_keys(NUM)


def _read(net):
    rng = np.random.default_rng(2)
    site = rng.integers(0, 16 * 16, size=(NUM, M)).astype(np.int32)
    locations = hard_locations(site, np.ones((NUM, M), bool))
    return net.read(net.features(X, True), locations, NUM * M)


# Each entry has a function from a dtype to a network, and one from that to outputs. The
# step of `test_a_step_is_close_to_float32` has the networks that are missing here.
NETWORKS = {
    "trunk at sites": (
        lambda dtype: networks.AppearanceNet(
            blocks.Trunk(8, "batch", 2, num_blocks=2, dtype=dtype), 4
        ),
        _read,
    ),
    "glimpse": (
        lambda dtype: networks.GlimpseAppearanceNet(7, 16, 4, dtype=dtype),
        _read,
    ),
    "dense sprites": (
        lambda dtype: networks.MLPSpriteDecoder(9, 3, 16, dtype=dtype),
        lambda net: net(Z, VALID, True),
    ),
    "baseline": (
        lambda dtype: baseline.BaselineVAE(SHAPE, 3, 8, dtype=dtype),
        lambda net: jnp.stack(baseline.elbo(net, X, KEYS, True)),
    ),
}


@functools.cache
def _variables(name):
    make, use = NETWORKS[name]
    shapes = jax.eval_shape(nn.init(use, make(jnp.float32)), jax.random.key(0))
    return tiny_models.random_leaves(shapes, scale=0.15)


def _computed(name, dtype):
    """Returns outputs, new batch statistics and the gradient of a loss."""
    make, use = NETWORKS[name]
    apply = nn.apply(use, make(dtype), mutable=["batch_stats"])
    rest = dict(_variables(name))
    params = rest.pop("params")

    def loss(params):
        outputs, updates = apply({"params": params, **rest})
        weights = np.random.default_rng(3).normal(size=outputs.shape)
        return (weights.astype(np.float32) * outputs).sum(), (outputs, updates)

    gradient, (outputs, updates) = jax.jit(jax.grad(loss, has_aux=True))(params)
    return outputs, updates, gradient


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _cosine(a, b):
    a, b = _flat(a), _flat(b)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def _dtypes(tree):
    return {
        leaf.dtype.name
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.standard_promotion
def test_networks_are_close_to_float32(name):
    """Outputs, statistics and gradients are float32, and close to float32 layers'."""
    one, other = (_computed(name, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    assert _dtypes(other) == {"float32"}
    (outputs, stats, gradient), (expected, expected_stats, slope) = other, one
    error = np.sqrt(np.mean((outputs - expected) ** 2) / np.mean(expected**2))
    assert 1e-5 < error < 0.02  # and not the same computation
    assert _cosine(gradient, slope) > 0.95
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0.01, atol=0.01),
        stats,
        expected_stats,
    )


def _step(dtype):
    """Makes a step of the paper's recipe whose updates are gradients, and a state."""
    rates = optimizer.Parts(*[optax.constant_schedule(1.0)] * 4)
    optim = optimizer.make_optimizer(optax.identity(), rates, 1e9)
    constants = schedules.Schedules(*map(optax.constant_schedule, (1.0, 0.01)))
    model = tiny_models.tiny_model(
        SHAPE, norm="batch", appearance_net="trunk", sprite_net="conv", dtype=dtype
    )
    auxiliary = AuxiliaryVAE(SHAPE[2], 2, 4, dtype=dtype)
    parts = Setup(model, auxiliary, optim, constants, tiny_steps.RELAXED)
    train_step = step.make_train_step(parts, "elbo")
    start = tiny_models.train_state(model, auxiliary, optim, KEYS[0])
    return jax.jit(train_step), start


@pytest.mark.standard_promotion
def test_a_step_is_close_to_float32():
    """Losses and statistics are close; gradients depend on draws, and some differ."""
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        train_step, start = _step(dtype)
        after, metrics = train_step(start, X)
        results.append((metrics, after.batch_stats))
    assert _dtypes(results[1]) == {"float32"}
    (expected, expected_stats), (metrics, stats) = results
    for name in ("loss", "elbo", "log_px"):
        value, same = (float(getattr(one, name)) for one in (metrics, expected))
        assert value == pytest.approx(same, rel=0.05) and value != same
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0.01, atol=0.01),
        stats,
        expected_stats,
    )


def _equations(jaxpr):
    """Yields all equations, also those of functions that are called."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(list(eqn.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


def _dtype(eqn):
    return max(x.aval.dtype.name for x in eqn.invars)


def _multiplications(eqn):
    left, right = (x.aval.shape for x in eqn.invars)
    numbers, total = eqn.params["dimension_numbers"], eqn.outvars[0].aval.size
    if eqn.primitive.name == "dot_general":
        return total * math.prod(left[axis] for axis in numbers[0][0])
    return total * math.prod(right) / right[numbers.rhs_spec[0]]


@pytest.mark.parametrize(
    ("configs", "name", "tighten_steps", "share"),
    [
        (dsprites, "paper", 0, 0.9),
        # Its sprites are the outputs of a last layer, which is float32.
        (dsprites, "laptop", 0, 0.5),
        (dsprites, "laptop", 1, 0.35),  # here these outputs are most of the work
        (baseline_configs, "dsprites:paper", 0, 0.9),
    ],
)
@pytest.mark.standard_promotion
def test_what_is_bfloat16_in_a_step(configs, name, tighten_steps, share):
    """Most products are bfloat16; parameters, moments, statistics and metrics are not.

    Nor is anything in a softmax, a density or a norm: all exponentials, logarithms and
    roots are of float32. The test looks at the last phase of training, where the
    paper's recipe has no auxiliary VAE.
    """
    config = configs.get_config(name)
    config.precision = "bfloat16"
    if "warmup" in config:
        config.elbo.appearance_updates = 0
        config.tighten.steps = tighten_steps
        config.model.objects_per_image = 10.0  # one buffer holds all slots
    experiment = build.build(config)
    images = jax.ShapeDtypeStruct((8, *config.model.image_shape), np.uint8)
    start = jax.eval_shape(experiment.init, jax.random.key(0))
    traced = jax.jit(experiment.train_step_at(config.num_steps)).trace(start, images)
    assert _dtypes(traced.out_info) == {"float32"}
    work, delicate = collections.Counter(), set()
    for eqn in _equations(traced.jaxpr.jaxpr):
        if eqn.primitive.name in ("conv_general_dilated", "dot_general"):
            work[_dtype(eqn)] += _multiplications(eqn)
        if eqn.primitive.name in ("exp", "log", "log1p", "logistic", "sqrt", "rsqrt"):
            delicate.add(_dtype(eqn))
    assert delicate == {"float32"}
    assert work["bfloat16"] > share * sum(work.values())


def test_only_training_is_less_precise():
    """A trained model is looked at and measured in float32, however it was trained."""
    config = dsprites.get_config("tiny")
    config.precision = "bfloat16"
    assert build.build(config).model == build.build_model(dsprites.get_config("tiny"))
