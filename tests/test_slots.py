"""Applying a network to active slots only equals applying it to all of them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax import blocks, slots
from lavae_jax.types import Array

B, M, L = 3, 4, 5
# The 5 objects are in slots that are not all the first ones.
ACTIVE = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 1]], bool)


class PerObject(nn.Module):
    """Applies weights, a bias, the image's index and batch statistics to objects."""

    capacity: int
    axis_name: str | None = None

    def setup(self):
        """Makes the layers."""
        self.dense = nn.Dense(2, bias_init=nn.initializers.ones)
        self.norm = blocks.BatchNorm(axis_name=self.axis_name)

    def __call__(self, z: Array, active: Array, train: bool) -> Array:
        """Maps [B, M, L] to [B, M, 2]."""

        def network(module, image, valid, z):
            h = module.dense(z) * (1 + image.astype(z.dtype))[:, None]
            return module.norm(h, train, valid)

        return slots.map_active(
            self, network, active, (z,), self.capacity, self.axis_name
        )


def _objects():
    return np.random.default_rng(0).normal(size=(B, M, L)).astype(np.float32)


def _init(module, z):
    init = jax.jit(module.init, static_argnums=3)
    return init(jax.random.key(0), z, ACTIVE, True)


@functools.cache
def _run(capacity):
    """Returns output, gradients and new batch statistics."""
    module, z = PerObject(capacity), _objects()
    variables = _init(PerObject(B * M), z)
    stats = {"batch_stats": {"norm": {"mean": jnp.ones(2), "var": 2 * jnp.ones(2)}}}
    weights = np.random.default_rng(1).normal(size=(B, M, 2)).astype(np.float32)

    def loss(params, z):
        out, updates = module.apply(
            {"params": params, **stats}, z, ACTIVE, True, mutable=["batch_stats"]
        )
        return (out * weights).sum(), (out, updates)

    grad = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    gradients, (out, updates) = grad(variables["params"], z)
    return out, gradients, updates


@pytest.mark.parametrize("capacity", [2, 8])
def test_any_capacity_gives_the_same(capacity):
    """Values, gradients and statistics are the same, also with too small a buffer."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        _run(capacity),
        _run(B * M),
    )


def test_all_slots_are_the_plain_network():
    """Active slots have what the plain layers give, and the others have zeros."""
    module, z = PerObject(3), _objects()
    variables = _init(module, z)
    out = module.apply(variables, z, ACTIVE, False)
    dense = jax.tree.map(np.asarray, variables["params"]["dense"])
    h = z.astype(np.float64) @ dense["kernel"] + dense["bias"]
    h = h * np.arange(1, B + 1)[:, None, None] / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(out, h * ACTIVE[..., None], atol=1e-5)
    assert not np.asarray(out)[~ACTIVE].any()


def test_devices_take_the_same_buffer():
    """Devices with many objects and with none share statistics of all their rows."""
    z = _objects()
    z = np.stack([z, z[::-1], 2 * z, -z])
    active = np.stack([ACTIVE, ~ACTIVE, np.zeros_like(ACTIVE), ACTIVE])
    several = PerObject(5, axis_name="batch")
    variables = _init(several, z[0])

    def step(z, active):
        return several.apply(variables, z, active, True, mutable=["batch_stats"])

    out, updates = jax.pmap(step, axis_name="batch")(z, active)
    dense = jax.tree.map(np.asarray, variables["params"]["dense"])
    scale = np.arange(1, B + 1)[:, None, None]
    h = (z.astype(np.float64) @ dense["kernel"] + dense["bias"]) * scale
    rows = h[active]  # of all devices together
    expected = (h - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    np.testing.assert_allclose(out, expected * active[..., None], atol=1e-4)
    mean = updates["batch_stats"]["norm"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * np.tile(rows.mean(0), (4, 1)), atol=1e-5)
