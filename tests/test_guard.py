"""A step that would spoil the state is skipped, on every device alike."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax.training import guard


class _State(NamedTuple):
    step: jax.Array
    params: dict
    key: jax.Array


class _Metrics(NamedTuple):
    loss: jax.Array
    unknown: jax.Array | None = None
    skipped: jax.Array | None = None


def _start():
    params = {"a": jnp.ones(3), "b": {"w": jnp.zeros((2, 2))}}
    return _State(jnp.int32(7), params, jax.random.key(0))


def _step(axis_name):
    """Adds the images' mean to a and their square root's to b; the loss is finite."""

    def train_step(state, images):
        x, root = images.mean(), jnp.sqrt(images).mean()
        if axis_name:
            x, root = jax.lax.pmean((x, root), axis_name)
        params = {"a": state.params["a"] + x, "b": {"w": state.params["b"]["w"] + root}}
        key = jax.random.fold_in(state.key, 1)
        return _State(state.step + 1, params, key), _Metrics(jnp.float32(1))

    return train_step


def _run(images, num_devices):
    if num_devices == 1:
        return jax.jit(guard.skip_what_spoils(_step(None)))(_start(), images)
    step = guard.skip_what_spoils(_step("batch"))
    parallel = jax.pmap(step, "batch", in_axes=(None, 0), out_axes=(0, None))
    states, metrics = parallel(_start(), images.reshape(num_devices, -1))
    for leaf in jax.tree.leaves(_plain(states)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    return jax.tree.map(lambda x: x[0], states), metrics


def _plain(state):
    return state._replace(key=jax.random.key_data(state.key))


@pytest.mark.parametrize("num_devices", [1, 4])
def test_a_good_step_is_made(num_devices):
    """As without the guard, and counted as not skipped."""
    images = jnp.arange(8.0)
    state, (metrics, spoilt) = _run(images, num_devices)
    expected, _ = _step(None)(_start(), images)
    jax.tree.map(np.testing.assert_array_equal, _plain(state), _plain(expected))
    assert metrics == _Metrics(1.0, None, 0.0)
    assert not spoilt.any()


@pytest.mark.parametrize("num_devices", [1, 4])
def test_a_step_that_spoils_is_skipped(num_devices):
    """One bad image of one device: only the number of the step goes on."""
    images = jnp.arange(8.0).at[5].set(-1)  # the gradient of sqrt
    state, (metrics, spoilt) = _run(images, num_devices)
    expected = _start()._replace(step=8)
    jax.tree.map(np.testing.assert_array_equal, _plain(state), _plain(expected))
    assert metrics.skipped == 1
    assert guard.names(state) == ["params/a", "params/b/w"]
    assert spoilt.tolist() == [False, True]


def test_a_step_that_spoils_is_told():
    """Where none is to be skipped, it is made, and its metrics stay as they are."""
    images = jnp.arange(8.0).at[5].set(-1)
    step = jax.jit(guard.tell_what_spoils(_step(None)))
    state, (metrics, spoilt) = step(_start(), images)
    assert np.isnan(state.params["b"]["w"]).all()
    assert metrics == _Metrics(1.0)
    assert spoilt.tolist() == [False, True]


def test_a_loss_that_is_not_finite_is_enough():
    """Clipping may hide it from the parameters."""

    def train_step(state, images):
        return state._replace(step=state.step + 1), _Metrics(images.sum())

    step = jax.jit(guard.skip_what_spoils(train_step))
    _, (metrics, spoilt) = step(_start(), jnp.array([1.0, jnp.inf]))
    assert metrics.skipped == 1 and not spoilt.any()
