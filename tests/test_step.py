"""The train step: the same on one device and on several, and what its parts do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lavae_jax.training import optimizer, recipe
from lavae_jax.training.state import restarted
from tests.tiny_steps import (
    LAPTOP,
    PROPOSE,
    REFINE,
    SHAPE,
    TOUCH,
    WEIGH,
    compiled_step,
    make_images,
    make_optimizer,
    run_phases,
    start_state,
)

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def test_devices_make_the_same_steps():
    """Parameters and every metric after steps of the laptop's recipe on 4 devices.

    Equal up to the order of sums; draws must be the same for that. `test_scale` has the
    paper's recipe, with batch statistics.
    """
    one, several = (
        run_phases(LAPTOP, (PROPOSE, REFINE, TOUCH, WEIGH), count) for count in (1, 4)
    )
    assert one[0].step == 4
    assert one[1][3].bound > one[1][3].elbo
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), one[0].params, start_state().params
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
    current, losses = start_state(), []
    for _ in range(60):
        current, metrics = compiled_step(LAPTOP, PROPOSE, 1)(current, make_images(8))
        losses.append((metrics.loss, metrics.auxiliary_loss, metrics.location_loss))
    first, last = np.mean(losses[:5], axis=0), np.mean(losses[-5:], axis=0)
    assert (last < 0.9 * first).all(), (first, last)


def test_appearance_updates():
    """More of them change nothing but what paints, and that for the better."""
    once = LAPTOP._replace(appearance_updates=1)
    (one, start), (several, same_start) = (
        run_phases(current, (PROPOSE,), 1) for current in (once, LAPTOP)
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
        run_phases(current, (PROPOSE,) * 10, 1) for current in (once, LAPTOP)
    )
    assert after_several[-1].objects == after_one[-1].objects > 0
    assert after_several[-1].elbo > after_one[-1].elbo > start[-1].elbo


def test_touching_scenes_teach_h_loc_alone():
    """Its error on them goes down, and all other parameters stay as they are."""
    start, ends, errors = start_state(), [], []
    current = start._replace(step=jnp.array(LAPTOP.joint_steps))
    for _ in range(30):
        current, metrics = compiled_step(LAPTOP, TOUCH, 1)(current, make_images(8))
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
    params = jax.tree.map(jnp.copy, start_state().params)
    sees_nothing = jax.tree.map(jnp.zeros_like, params["lavae"]["location_net"])
    params["lavae"]["location_net"] = sees_nothing
    step = jnp.array(LAPTOP.joint_steps)
    state = start_state()._replace(step=step, params=params)
    images = np.zeros((8, *SHAPE), np.uint8)
    images[:, 5, 7] = 255
    single = LAPTOP._replace(orphans=1)
    (_, few), (_, many) = (
        compiled_step(r, TOUCH, 1)(state, images) for r in (LAPTOP, single)
    )
    assert (few.added, many.added) == (0, 1)


@pytest.mark.parametrize("part", ["location", "rest"])
def test_moments_begin_anew(part):
    """The optimiser's, of one part, after the steps given and at no other step."""
    adam = make_optimizer()._replace(transform=optax.scale_by_adam())
    fresh = start_state()._replace(opt_state=adam.init(start_state().params))
    worn = jax.tree.map(lambda leaf: leaf + 1, fresh.opt_state)
    anew = worn._replace(**{part: getattr(fresh.opt_state, part)})
    for made, expected in [(6, worn), (7, anew), (8, worn)]:
        state = fresh._replace(step=jnp.array(made), opt_state=worn)
        found = restarted(state, adam, part, 7)
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
        (WEIGH, {"loss", "bound"} | elbo),
    ]:
        _, (metrics,) = run_phases(LAPTOP, (phase,), 1)
        computed = {k for k, v in metrics._asdict().items() if v is not None}
        assert computed == expected
