"""A small model, which learns the mean image with noise, makes fast runs.

It stands in for LAVAE where nothing that a test claims depends on the model.

This is also the program of one of two processes that make such a run together, until
one of them gets a signal to stop:

python -m tests.mean_images ADDRESS INDEX DATA_DIR WORKDIR
"""

import functools
import os
import signal
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import cli
from experiments.run import checkpoints, loop, processes
from experiments.run.build import Experiment
from lavae_jax import plotting
from lavae_jax.training.parallel import Devices


class _State(NamedTuple):
    step: jax.Array
    params: dict
    batch_stats: dict
    key: jax.Array


class _Metrics(NamedTuple):
    loss: jax.Array
    noise: jax.Array


class _Counted(NamedTuple):
    count_accuracy: jax.Array


def _nothing():
    pass


@functools.cache
def experiment(axis_name=None, learning_rate=0.5, on_measure=_nothing):
    """Makes the experiment, whose model counts one object unless an image is black."""

    def init(key):
        shape = (64, 64, 3)
        params = {"mean": jnp.zeros(shape)}
        return _State(jnp.int32(0), params, {"seen": jnp.zeros(shape)}, key)

    def train_step(state, images):
        key, key_noise = jax.random.split(state.key)
        noise = jax.random.normal(key_noise)
        x = images.astype(jnp.float32) / 255

        def loss_fn(mean):
            return jnp.mean((x - mean[None] - 0.1 * noise) ** 2)

        mean = state.params["mean"]
        loss, gradient = jax.value_and_grad(loss_fn)(mean)
        seen = jnp.mean(x, axis=0)
        if axis_name:
            loss, gradient, seen = jax.lax.pmean((loss, gradient, seen), axis_name)
        params = {"mean": mean - learning_rate * gradient}
        stats = {"seen": state.batch_stats["seen"] + seen}
        state = _State(state.step + 1, params, stats, key)
        return state, _Metrics(loss, noise)

    def draw(state, images):
        means = np.broadcast_to(state.params["mean"], images.shape)
        return plotting.grid(list(zip(images, means, strict=True)))

    def measure(state, images, n):
        on_measure()
        return _Counted(jnp.any(images > 0, axis=(1, 2, 3)).astype(n.dtype) == n)

    def warnings(step, means):
        return [f"{means.count_accuracy:.0%} of step {step}"] if step > 2 else ()

    return Experiment(
        model=None,
        init=init,
        train_step_at=lambda step: train_step,
        shown=("loss",),
        draw=draw,
        measure=measure,
        warnings=warnings,
    )


def six_steps(data_dir):
    """Makes a config of six steps, in which everything is due at least twice."""
    data = dict(
        name="multi_dsprites/tiny", data_dir=data_dir, manual_dir=None, num_valid=40
    )
    return ConfigDict(
        dict(
            seed=3,
            num_steps=6,
            batch_size=12,
            data=data,
            log_every=1,
            eval_every=2,
            picture_every=3,
            checkpoint_every=2,
            num_eval_images=31,
            precision="float32",
        )
    )


@functools.cache
def devices_of(num):
    """Returns the first `num` devices, cached so that compiled programs are kept."""
    return Devices(jax.devices()[:num])


def run(config, workdir, num_devices=1, **changes):
    """Trains the model; `changes` are arguments of `experiment`."""
    devices = devices_of(num_devices)
    toy = experiment(devices.axis_name, **changes)
    return loop.run(toy, config, workdir, devices)


def last(workdir):
    """Returns step, position and the state's leaves of the last checkpoint."""
    template = experiment().init(jax.random.key(0))
    step, state, position = checkpoints.Checkpoints(workdir).restore(template)
    key = jax.random.key_data(state.key)
    return step, position, jax.tree.leaves(state._replace(key=key))


def assert_same_end(workdir, other):
    """Asserts equal steps and positions, and bitwise equal states, of two runs."""
    step, position, leaves = last(workdir)
    other_step, other_position, other_leaves = last(other)
    assert (step, position) == (other_step, other_position)
    for leaf, other_leaf in zip(leaves, other_leaves, strict=True):
        np.testing.assert_array_equal(leaf, other_leaf)


def assert_close_end(workdir, other):
    """Asserts equal steps and places, and equal states up to rounding, of two runs."""
    (step, place, leaves), (same_step, same_place, same) = map(last, (workdir, other))
    assert (step, place.batches) == (same_step, same_place.batches)
    for leaf, same_leaf in zip(leaves, same, strict=True):
        np.testing.assert_allclose(leaf, same_leaf, rtol=1e-5, atol=1e-6)


def _main(address, index, data_dir, workdir):
    """Trains without end, until the second process sends itself a signal."""
    processes.join(None, address, 2, int(index))
    never, config = 10**6, six_steps(data_dir)
    config.update(num_steps=never, log_every=100, eval_every=10)
    config.update(picture_every=never, checkpoint_every=never)
    stop = _nothing
    if not processes.is_first():
        stop = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
    devices = Devices()
    loop.run(experiment(devices.axis_name, on_measure=stop), config, workdir, devices)


if __name__ == "__main__":
    cli._guarded(_main, *sys.argv[1:])
