"""The train step: the same on one device and on several, and what its parts do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lavae_jax.training import (
    locating,
    optimizer,
    recipe,
    schedules,
    state,
    step,
    touching_step,
)
from lavae_jax.training.optimizer import Parts
from lavae_jax.warmup import AuxiliaryVAE
from tests import tiny_models

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

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
)
PROPOSE = recipe.Phase(True, True, propose=True, location=True)
REFINE = recipe.Phase(False, True, propose=False, location=True)
TOUCH = REFINE._replace(touching=True)
SCHEDULES = schedules.Schedules(
    tau=schedules.exponential(0.5, 0.02, 10),
    epsilon=optax.constant_schedule(1e-2),
    force_one_prob=optax.constant_schedule(0.5),
    location_weight=optax.constant_schedule(0.1),
    bump_sigma=optax.constant_schedule(2.0),
)


def _model(axis_name=None):
    return tiny_models.tiny_model(
        SHAPE,
        # A buffer too small for the batch, and none for a single image.
        objects_per_image=0.1,
        max_objects=5,
        exclusion_radius=2,
        axis_name=axis_name,
    )


AUXILIARY = AuxiliaryVAE(SHAPE[2], latent_channels=2, channels=4)


def _optimizer():
    rates = Parts(*[optax.constant_schedule(1e-2)] * 3)
    # Unlike Adam's, updates are proportional to gradients, so that errors show.
    return optimizer.make_optimizer(optax.identity(), rates, 1.0)


@functools.cache
def _step(recipe, phase, num_devices):
    axis_name = None if num_devices == 1 else "batch"
    train_step = step.make_train_step(
        _model(axis_name), AUXILIARY, _optimizer(), SCHEDULES, recipe, phase
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
def _start():
    """A state in which every part has something to do."""
    model = _model()
    fresh = state.init_state(model, AUXILIARY, _optimizer(), jax.random.key(0))
    variables = tiny_models.random_variables(model, scale=0.3)
    # An auxiliary VAE that sees something everywhere.
    auxiliary = jax.tree.map(lambda a: a + 0.1, fresh.params["auxiliary"])
    return fresh._replace(
        params={"lavae": variables["params"], "auxiliary": auxiliary},
        batch_stats=variables.get("batch_stats", {}),
    )


def _images(num_images):
    images = np.zeros((num_images, *SHAPE), np.uint8)
    rng = np.random.default_rng(0)
    for image in images[1:]:  # the first is empty
        row, column = rng.integers(0, 9), rng.integers(0, 15)
        image[row : row + 3, column : column + 3, rng.integers(0, 2)] = 255
    return images


def _run(recipe, phases, num_devices):
    images = _images(8)
    if num_devices > 1:
        images = images.reshape(num_devices, -1, *SHAPE)
    current, metrics = _start(), []
    for phase in phases:
        current, measured = _step(recipe, phase, num_devices)(current, images)
        metrics.append(measured)
    return current._replace(key=None), metrics


def test_devices_make_the_same_steps():
    """Parameters and every metric after steps of the laptop's recipe on 4 devices.

    Equal up to the order of sums; draws must be the same for that. `test_scale` has the
    paper's recipe, with batch statistics.
    """
    one, several = (_run(LAPTOP, (PROPOSE, REFINE, TOUCH), count) for count in (1, 4))
    assert one[0].step == 3
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), one[0].params, _start().params
    )
    assert all(max(jax.tree.leaves(part)) > 1e-4 for part in moved["lavae"].values())
    assert max(one[1][1].objects, one[1][0].objects) > 0
    assert one[1][2].touching > 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        several,
        one,
    )


def test_a_batch_is_learned():
    """Repeated on one batch, both models' losses and the error of h_loc go down."""
    current, losses = _start(), []
    for _ in range(60):
        current, metrics = _step(LAPTOP, PROPOSE, 1)(current, _images(8))
        losses.append((metrics.loss, metrics.auxiliary_loss, metrics.location_loss))
    first, last = np.mean(losses[:5], axis=0), np.mean(losses[-5:], axis=0)
    assert (last < 0.9 * first).all(), (first, last)


def test_appearance_updates():
    """More of them change nothing but what paints, and that for the better."""
    once = LAPTOP._replace(appearance_updates=1)
    (one, start), (several, same_start) = (
        _run(current, (PROPOSE,), 1) for current in (once, LAPTOP)
    )
    jax.tree.map(np.testing.assert_array_equal, start, same_start)
    for part in ("location", "auxiliary"):
        jax.tree.map(
            np.testing.assert_array_equal,
            getattr(optimizer.split(one.params), part),
            getattr(optimizer.split(several.params), part),
        )
    # Proposals come from the auxiliary VAE, so both have objects at the same sites.
    (_, after_one), (_, after_several) = (
        _run(current, (PROPOSE,) * 10, 1) for current in (once, LAPTOP)
    )
    assert after_several[-1].objects == after_one[-1].objects > 0
    assert after_several[-1].elbo > after_one[-1].elbo > start[-1].elbo


def test_touching_scenes_teach_h_loc_alone():
    """Its error on them goes down, and all other parameters stay as they are."""
    start, ends, errors = _start(), [], []
    current = start._replace(step=jnp.array(LAPTOP.joint_steps))
    for _ in range(30):
        current, metrics = _step(LAPTOP, TOUCH, 1)(current, _images(8))
        errors.append(metrics.location_loss)
        ends.append(optimizer.split(current.params))
    assert np.mean(errors[-5:]) < 0.95 * np.mean(errors[:5])
    before = optimizer.split(start.params)
    for part in ("rest", "auxiliary"):
        jax.tree.map(
            np.testing.assert_array_equal,
            getattr(ends[-1], part),
            getattr(before, part),
        )
    assert all(
        jax.tree.leaves(
            jax.tree.map(
                lambda a, b: (a != b).any(), ends[-1].location, before.location
            )
        )
    )


def test_touching_scenes_have_their_own_least_object():
    """A single pixel is one where the recipe says so, and is not by default."""
    params = jax.tree.map(jnp.copy, _start().params)
    sees_nothing = jax.tree.map(jnp.zeros_like, params["lavae"]["location_net"])
    params["lavae"]["location_net"] = sees_nothing
    step = jnp.array(LAPTOP.joint_steps)
    state = _start()._replace(step=step, params=params)
    images = np.zeros((8, *SHAPE), np.uint8)
    images[:, 5, 7] = 255
    single = LAPTOP._replace(orphans=1)
    (_, few), (_, many) = (_step(r, TOUCH, 1)(state, images) for r in (LAPTOP, single))
    assert (few.added, many.added) == (0, 1)


def test_touching_scenes_begin_with_fresh_moments():
    """The optimiser's, of h_loc alone, in the first of these steps alone."""
    adam = _optimizer()._replace(transform=optax.scale_by_adam())
    full = functools.partial(locating.Setup, _model(), AUXILIARY, adam, SCHEDULES)
    fresh = _start()._replace(opt_state=adam.init(_start().params))
    worn = jax.tree.map(lambda leaf: leaf + 1, fresh.opt_state)
    for made, expected in [
        (LAPTOP.joint_steps, worn._replace(location=fresh.opt_state.location)),
        (LAPTOP.joint_steps + 1, worn),
    ]:
        state = fresh._replace(step=jnp.array(made), opt_state=worn)
        found = touching_step.restarted(full(LAPTOP, TOUCH), state)
        jax.tree.map(np.testing.assert_array_equal, found.opt_state, expected)


def test_what_a_phase_does_not_compute_is_not_reported():
    """Not as 0, which would look like the best ELBO of a run."""
    lead = recipe.Phase(True, False, propose=True, location=True)
    paint = recipe.Phase(False, True, propose=False, location=False)
    elbo = {"elbo", "log_px", "kl_app", "kl_loc", "kl_n", "objects", "epsilon"}
    target = {"location_loss", "moved", "dropped", "added"}
    for phase, expected in [
        (lead, {"loss", "auxiliary_loss"}),
        (paint, {"loss"} | elbo),
        (REFINE, {"loss"} | elbo | target),
        (TOUCH, {"loss", "touching"} | elbo | target),
    ]:
        _, (metrics,) = _run(LAPTOP, (phase,), 1)
        computed = {k for k, v in metrics._asdict().items() if v is not None}
        assert computed == expected
