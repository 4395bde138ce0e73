"""Train steps of a tiny model, one after the other, on one device or on several."""

import functools

import jax
import numpy as np
import optax

from lavae_jax.training import optimizer, recipe, schedules, state, step
from lavae_jax.training.optimizer import Parts
from lavae_jax.warmup import AuxiliaryVAE
from tests import tiny_models

SHAPE = (12, 18, 2)
LAPTOP = recipe.Recipe(
    draws="mode",
    target="bumps",
    refine=True,
    bump_height=10.0,
    auxiliary_steps=2,
    lead_steps=1,
    proposal_steps=3,
    settle_steps=4,
    location_every=2,
    appearance_updates=2,
    joint_steps=2,
    importance_after=3,
    importance_samples=3,
)
PROPOSE = recipe.Phase(True, True, propose=True, location=True)
REFINE = recipe.Phase(False, True, propose=False, location=True)
TOUCH = REFINE._replace(touching=True)
WEIGH = REFINE._replace(location=False, importance=True)
SCHEDULES = schedules.Schedules(
    tau=schedules.exponential(0.5, 0.02, 10),
    epsilon=optax.constant_schedule(1e-2),
    force_one_prob=optax.constant_schedule(0.5),
    location_weight=optax.constant_schedule(0.1),
    bump_sigma=optax.constant_schedule(2.0),
)


def make_model(axis_name=None):
    """A tiny model."""
    return tiny_models.tiny_model(
        SHAPE,
        # A buffer too small for the batch, and none for a single image.
        objects_per_image=0.1,
        max_objects=5,
        exclusion_radius=2,
        axis_name=axis_name,
    )


AUXILIARY = AuxiliaryVAE(SHAPE[2], latent_channels=2, channels=4)


def make_optimizer():
    """One with the same rate for all parts."""
    rates = Parts(*[optax.constant_schedule(1e-2)] * 3)
    # Unlike Adam's, updates are proportional to gradients, so that errors show.
    return optimizer.make_optimizer(optax.identity(), rates, 1.0)


@functools.cache
def compiled_step(recipe, phase, num_devices):
    """The step of a phase, on so many devices."""
    axis_name = None if num_devices == 1 else "batch"
    train_step = step.make_train_step(
        make_model(axis_name), AUXILIARY, make_optimizer(), SCHEDULES, recipe, phase
    )
    if num_devices == 1:
        return jax.jit(train_step)
    return jax.pmap(
        train_step,
        axis_name,
        in_axes=(None, 0),
        out_axes=None,
        devices=jax.devices()[:num_devices],
    )


@functools.cache
def start_state():
    """A state in which every part has something to do."""
    model = make_model()
    fresh = state.init_state(model, AUXILIARY, make_optimizer(), jax.random.key(0))
    variables = tiny_models.random_variables(model, scale=0.3)
    # An auxiliary VAE that sees something everywhere.
    auxiliary = jax.tree.map(lambda a: a + 0.1, fresh.params["auxiliary"])
    return fresh._replace(
        params={"lavae": variables["params"], "auxiliary": auxiliary},
        batch_stats=variables.get("batch_stats", {}),
    )


def make_images(num_images):
    """Images with one square each, but for the first."""
    images = np.zeros((num_images, *SHAPE), np.uint8)
    rng = np.random.default_rng(0)
    for image in images[1:]:  # the first is empty
        row, column = rng.integers(0, 9), rng.integers(0, 15)
        image[row : row + 3, column : column + 3, rng.integers(0, 2)] = 255
    return images


def run_phases(recipe, phases, num_devices):
    """A step of each phase: the state after them, and the metrics of each."""
    images = make_images(8)
    if num_devices > 1:
        images = images.reshape(num_devices, -1, *SHAPE)
    current, metrics = start_state(), []
    for phase in phases:
        current, measured = compiled_step(recipe, phase, num_devices)(current, images)
        metrics.append(measured)
    return current._replace(key=None), metrics
