"""A run of a small LAVAE for as long as a claim about its spread needs.

Also the program of one of two processes that make such runs together:

python -m tests.scale_runs ADDRESS INDEX DATA_DIR STEPS=WORKDIR...
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

from experiments import build, loop, processes, views
from experiments.devices import Devices
from lavae_jax.training import optimizer, recipe, schedules, state, step
from lavae_jax.training.keys import image_keys
from lavae_jax.training.optimizer import Parts
from lavae_jax.warmup import AuxiliaryVAE
from tests import tiny_models

NUM_STEPS = 20
BATCH_SIZE = 8
SHAPE = (64, 64, 3)

# The paper's recipe, in the phase in which everything is trained.
_RECIPE = recipe.Recipe("relaxed", "kl_map", False, 10.0, 100, 0, 0, 0, 1, 1)
_PHASE = recipe.Phase(True, True, propose=False, location=True)
_SCHEDULES = schedules.Schedules(
    tau=optax.constant_schedule(0.5),
    epsilon=optax.constant_schedule(1e-2),
    # One object or none, at random: few devices have as many as the others.
    force_one_prob=optax.constant_schedule(0.5),
    location_weight=optax.constant_schedule(0.1),
    bump_sigma=optax.constant_schedule(2.0),
)
_AUXILIARY = AuxiliaryVAE(SHAPE[2], latent_channels=2, channels=4)
_OPTIMIZER = optimizer.make_optimizer(
    optax.identity(), Parts(*map(optax.constant_schedule, (1e-6, 1e-5, 1e-6))), 1e9
)


class Metrics(NamedTuple):
    """What a step tells; the last two are whole numbers, equal only if all bits are."""

    loss: jax.Array
    elbo: jax.Array
    objects: jax.Array
    draws: jax.Array
    images: jax.Array


def config(data_dir: str, num_steps: int, seed: int = 0) -> ConfigDict:
    """The part of a config that the loop uses."""
    data = dict(
        name="multi_dsprites/tiny", data_dir=data_dir, manual_dir=None, num_valid=64
    )
    every = dict(eval_every=1_000, picture_every=1_000, checkpoint_every=1_000)
    return ConfigDict(
        dict(
            seed=seed,
            num_steps=num_steps,
            batch_size=BATCH_SIZE,
            data=data,
            log_every=1,
            num_eval_images=8,
            **every,
        )
    )


def model(axis_name=None):
    """LAVAE with batch normalisation everywhere, masked in the sprite decoder."""
    return tiny_models.tiny_model(
        SHAPE,
        norm="batch",
        appearance_net="trunk",
        sprite_net="conv",
        sprite_size=9,
        objects_per_image=0.1,
        count_threshold=1e9,
        axis_name=axis_name,
    )


@functools.cache
def experiment(axis_name=None) -> build.Experiment:
    """What is trained; it measures and shows next to nothing, which is elsewhere."""
    train_step = step.make_train_step(
        model(axis_name), _AUXILIARY, _OPTIMIZER, _SCHEDULES, _RECIPE, _PHASE
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

    def look(_, images):
        return views.ImageView(jnp.zeros(images.shape))

    def measure(_, images, n):
        del images
        return build.Counted(n == 0)

    return build.Experiment(
        model=model(),
        init=_init,
        train_step_at=lambda number: watched_step,
        shown=("loss",),
        look=look,
        measure=measure,
    )


def run(devices: Devices, data_dir: str, workdir, num_steps: int = NUM_STEPS) -> None:
    """Trains, or goes on, up to a step."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        loop.run(
            experiment(devices.axis_name), config(data_dir, num_steps), workdir, devices
        )


def _init(key):
    """Parameters of a size that makes every part of the model matter."""
    lavae = tiny_models.random_variables(model(), scale=0.3)
    x = jnp.zeros((1, *SHAPE))
    auxiliary = tiny_models.random_leaves(
        jax.eval_shape(_AUXILIARY.init, jax.random.key(0), x, key[None]), scale=0.3
    )
    params = {"lavae": lavae["params"], "auxiliary": auxiliary["params"]}
    return state.TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=lavae["batch_stats"],
        opt_state=_OPTIMIZER.init(params),
        key=key,
    )


def _digest(values, axis_name):
    """A number that depends on every bit of [B, ...] and on its place in the batch."""
    num, values = len(values), values.reshape(len(values), -1).astype(jnp.uint32)
    first = 0 if axis_name is None else lax.axis_index(axis_name) * num
    row = (first + jnp.arange(num)).astype(jnp.uint32)[:, None]
    column = jnp.arange(values.shape[1], dtype=jnp.uint32)[None, :]
    weight = 2 * (row * np.uint32(values.shape[1]) + column) + 1
    total = (weight * values).sum(dtype=jnp.uint32)
    return total if axis_name is None else lax.psum(total, axis_name)


def _main(address, index, data_dir, *runs):
    processes.join(None, address, 2, int(index))
    devices = Devices()
    for part in runs:
        num_steps, _, workdir = part.partition("=")
        run(devices, data_dir, workdir, int(num_steps))


if __name__ == "__main__":
    _main(*sys.argv[1:])
