"""Makes train steps of a tiny model, on one device or on several."""

import functools

import jax
import numpy as np
import optax

from lavae_jax.training import optimizer, recipe, schedules, step
from lavae_jax.training.optimizer import Parts
from lavae_jax.training.setup import Setup
from lavae_jax.warmup import AuxiliaryVAE
from tests import tiny_models

SHAPE = (12, 18, 2)
RECIPE = recipe.Recipe(
    auxiliary_steps=1,
    guided_steps=1,
    bump_sigma=2.0,
    object_size=5,
    draws="score",
    num_draws=3,
    # This is too cold for an empty background, whose maxima are a matter of rounding.
    count_temperature=0.01,
    location_every=2,
    appearance_updates=3,
    minibatches=2,
    superpose=0.5,
    wake_weight=0.5,
    wake_one_more=True,
    tighten_after=4,
    tighten_draws=3,
    tighten_elbo=0.25,
)
PLAIN = RECIPE._replace(
    location_every=1,
    minibatches=1,
    superpose=0.0,
    wake_weight=0.0,
    appearance_updates=0,
    num_draws=1,
)
# These draws are the paper's, in the stage in which everything is trained.
RELAXED = recipe.Recipe(
    auxiliary_steps=0,
    guided_steps=0,
    draws="relaxed",
    num_draws=1,
    # This is too cold for an empty background, whose maxima are a matter of rounding.
    count_temperature=0.01,
)
STAGES = ("auxiliary", "guided", "elbo", "tighten")
SCHEDULES = schedules.Schedules(
    tau=schedules.exponential(0.5, 0.02, 10), noise=optax.constant_schedule(1e-2)
)


def make_model(axis_name=None, **fields):
    """Makes a tiny model; `fields` replace values of its own."""
    own = dict(
        # Several devices have a buffer too small for their images, one has all slots.
        objects_per_image=5 if axis_name is None else 0.1,
        max_objects=5,
        exclusion_radius=2,
        count_threshold=0.7,
    )
    return tiny_models.tiny_model(SHAPE, axis_name=axis_name, **(own | fields))


def make_auxiliary(model):
    """Makes the tiny auxiliary VAE of a model."""
    has_background = model.background_net is not None
    return AuxiliaryVAE(SHAPE[2], 2, 4, 2, model.pixels, has_background)


AUXILIARY = make_auxiliary(make_model())
GREY = dict(background="smooth", compositing="alpha", pixels="gaussian")
"""Fields of a model of pixels of many values, before a background."""


# Unlike Adam's, first updates are proportional to gradients, which no norm clips, so
# that errors show. Rates are small where gradients are large.
OPTIMIZER = optimizer.make_optimizer(
    optax.trace(decay=0.5),
    Parts(*map(optax.constant_schedule, (3e-6, 1e-4, 1e-2, 1e-5))),
    1e9,
)


def make_step(recipe, stage, axis_name=None, **fields):
    """Makes the step of a stage, not compiled."""
    model = make_model(axis_name, **fields)
    setup = Setup(model, make_auxiliary(model), OPTIMIZER, SCHEDULES, recipe)
    return step.make_train_step(setup, stage)


@functools.cache
def compiled_step(recipe, stage, num_devices=1, **fields):
    """Returns the compiled step of a stage, for one device or several."""
    axis_name = None if num_devices == 1 else "batch"
    train_step = make_step(recipe, stage, axis_name, **fields)
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
def start_state(**fields):
    """Makes a state in which every part has something to do."""
    # With some other keys, no drawn site is near a lit pixel.
    key, model = jax.random.key(1), make_model(**fields)
    return tiny_models.train_state(model, make_auxiliary(model), OPTIMIZER, key)


def make_images(num_images=8):
    """Makes images with one square each, the first empty; neighbours do not overlap."""
    images = np.zeros((num_images, *SHAPE), np.uint8)
    rng = np.random.default_rng(3)
    for image in images[1:]:  # the first is empty
        row, column = rng.integers(0, 9), rng.integers(0, 15)
        image[row : row + 3, column : column + 3, rng.integers(0, 2)] = 255
    return images


@functools.cache
def run_stages():
    """Makes one step of each stage from the same state, and returns {stage: result}."""
    return {
        stage: compiled_step(RECIPE, stage)(start_state(), make_images())
        for stage in STAGES
    }


def assert_same_moves(found, expected, start):
    """Asserts that two trees of arrays are equal up to 5‰ of what a leaf has moved.

    The last bits of its numbers are free too.
    """

    def check(path, a, b, before):
        atol = 5e-3 * np.abs(b - before).max() + 1e-6 * np.abs(b).max()
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=name)

    jax.tree.map_with_path(check, found, expected, start)


def changed(before, after):
    """Returns which leaves of two trees of the same form differ at all."""
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
    return jax.tree.leaves(moved)
