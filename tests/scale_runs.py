"""A small LAVAE is trained for as long as claims about its spread need.

This is also the program of one of two processes that make such a run together:

python -m tests.scale_runs ADDRESS INDEX WORKDIR
"""

import functools
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict

from experiments.own import data as own_data
from experiments.run import build, checkpoints, input_pipeline, loop, processes
from experiments.run.build import Experiment
from lavae_jax import plotting
from lavae_jax.training import optimizer, recipe, schedules, step
from lavae_jax.training.keys import image_keys
from lavae_jax.training.optimizer import Parts
from lavae_jax.training.parallel import Devices
from lavae_jax.warmup import AuxiliaryVAE
from tests import tiny_models

NUM_STEPS = 20
BATCH_SIZE = 8
SHAPE = (16, 20, 3)

# Draws are the paper's, in the stage in which everything is trained.
RECIPE = recipe.Recipe(
    auxiliary_steps=0,
    guided_steps=0,
    draws="relaxed",
    num_draws=2,
    # So cold that maxima of an empty background, made by rounding, are no objects.
    count_temperature=0.5,
    superpose=0.25,
)
_SCHEDULES = schedules.Schedules(
    tau=optax.constant_schedule(0.5), epsilon=optax.constant_schedule(1e-2)
)
_AUXILIARY = AuxiliaryVAE(SHAPE[2], latent_channels=2, channels=4)
_OPTIMIZER = optimizer.make_optimizer(
    optax.identity(),
    Parts(*map(optax.constant_schedule, (1e-6, 1e-5, 1e-5, 1e-6))),
    1e9,
)


class Metrics(NamedTuple):
    """Holds what a step reports; `draws` and `images` are digests of all their bits."""

    loss: jax.Array
    elbo: jax.Array
    objects: jax.Array
    draws: jax.Array
    images: jax.Array


def config(num_steps: int) -> ConfigDict:
    """Makes the part of a config that the loop uses."""
    never = 1_000
    return ConfigDict(
        dict(
            seed=0,
            num_steps=num_steps,
            batch_size=BATCH_SIZE,
            log_every=1,
            eval_every=never,
            picture_every=never,
            checkpoint_every=never,
        )
    )


def data() -> input_pipeline.Data:
    """Makes images with up to three squares; the first four are held out."""
    rng = np.random.default_rng(0)
    images = np.zeros((44, *SHAPE), np.uint8)
    for image in images:
        for _ in range(rng.integers(0, 4)):
            row, column = rng.integers(0, SHAPE[0] - 5), rng.integers(0, SHAPE[1] - 5)
            image[row : row + 5, column : column + 5, rng.integers(0, SHAPE[2])] = 255
    return input_pipeline.Data(images[4:], own_data.CountedImages(images[:4], None))


def model(axis_name=None):
    """Makes a LAVAE with batch normalisation in every network, masked in f_sprite."""
    return tiny_models.tiny_model(
        SHAPE,
        norm="batch",
        appearance_net="trunk",
        sprite_net="conv",
        sprite_size=7,
        count_threshold=24.0,
        axis_name=axis_name,
    )


@functools.cache
def experiment(axis_name=None) -> Experiment:
    """Makes the experiment; it measures and shows little, as other tests hold that."""
    train_step = step.make_train_step(
        model(axis_name), _AUXILIARY, _OPTIMIZER, _SCHEDULES, RECIPE, "elbo"
    )

    def watched_step(before, images):
        after, metrics = train_step(before, images)
        key = jax.random.fold_in(before.key, before.step)
        keys = image_keys(key, images.shape[0], axis_name)
        bits = jax.vmap(lambda key: jax.random.bits(key, (5,)))(keys)
        watched = Metrics(
            metrics.loss,
            metrics.elbo,
            metrics.objects,
            _digest(bits, axis_name),
            _digest(images, axis_name),
        )
        return after, watched

    def draw(_, images):
        return plotting.samples_grid(images)

    def measure(_, images, n):
        del n
        return build.HeldOutElbo(*jnp.ones((3, len(images))))

    return Experiment(
        model=model(),
        init=_init,
        train_step_at=lambda number: watched_step,
        shown=("loss",),
        draw=draw,
        measure=measure,
        warnings=lambda number, seen: (),
    )


def run(devices: Devices, workdir, num_steps: int = NUM_STEPS) -> None:
    """Starts or continues training, up to `num_steps`."""
    settings = config(num_steps)
    loop.run(experiment(devices.axis_name), settings, workdir, devices, data())


def end(workdir, init):
    """Returns the state after the last step, with its key as numbers."""
    template = jax.eval_shape(init, jax.random.key(0))
    step, state, _ = checkpoints.Checkpoints(workdir).restore(template)
    assert step == NUM_STEPS
    return plain(state)


def plain(state):
    """Returns the state with its key as numbers."""
    return state._replace(key=jax.random.key_data(state.key))


def assert_equal(state, expected, start):
    """Asserts equality up to 2‰ of a leaf's move and the last bits of its numbers."""

    def check(path, a, b, before):
        atol = 2e-3 * np.abs(b - before).max() + 5e-7 * np.abs(b).max()
        np.testing.assert_allclose(
            a, b, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path)
        )

    jax.tree.map_with_path(check, state, expected, start)


def _init(key):
    """Makes a state whose parameters depend on the key; every part matters."""
    state = tiny_models.train_state(model(), _AUXILIARY, _OPTIMIZER, key)
    factor = 1 + 0.1 * jax.random.normal(key)
    return state._replace(params=jax.tree.map(lambda a: factor * a, state.params))


def _digest(values, axis_name):
    """Returns a number made of every bit of [B, ...] and of its place in the batch."""
    num, values = len(values), values.reshape(len(values), -1).astype(jnp.uint32)
    first = 0 if axis_name is None else lax.axis_index(axis_name) * num
    row = (first + jnp.arange(num)).astype(jnp.uint32)[:, None]
    column = jnp.arange(values.shape[1], dtype=jnp.uint32)[None, :]
    weight = 2 * (row * np.uint32(values.shape[1]) + column) + 1
    total = (weight * values).sum(dtype=jnp.uint32)
    return total if axis_name is None else lax.psum(total, axis_name)


def _main(address, index, workdir):
    processes.join(None, address, 2, int(index))
    run(Devices(), workdir)


if __name__ == "__main__":
    _main(*sys.argv[1:])
