"""What changes in the course of a run: phases, schedules, and each part's optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.configs import dsprites
from experiments.run import build
from lavae_jax.training import optimizer, recipe
from lavae_jax.training.optimizer import Parts

# optax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def test_phases():
    """Steps are counted from 1, and a phase includes the step it is said to last to."""
    settings = recipe.Recipe(
        draws="mode",
        target="bumps",
        refine=True,
        bump_height=10.0,
        auxiliary_steps=200,
        lead_steps=150,
        proposal_steps=350,
        settle_steps=1_000,
        location_every=4,
        appearance_updates=3,
        joint_steps=1_009,
        importance_after=1_011,
    )
    expected = {
        1: (True, False, True, True, False, False),
        150: (True, False, True, True, False, False),
        151: (True, True, True, True, False, False),
        200: (True, True, True, True, False, False),
        201: (False, True, True, True, False, False),
        350: (False, True, True, True, False, False),
        351: (False, True, False, True, False, False),
        1_000: (False, True, False, True, False, False),
        1_003: (False, True, False, False, False, False),
        1_004: (False, True, False, True, False, False),
        1_009: (False, True, False, False, False, False),
        1_010: (False, True, False, True, True, False),
        1_011: (False, True, False, True, True, False),
        1_012: (False, True, False, False, False, True),
    }
    assert {k: tuple(recipe.phase_at(settings, k)) for k in expected} == expected


def test_the_papers_schedules():
    """Appendix B at the corners."""
    s = build.build_schedules(dsprites.get_config("paper"))
    corners = [0, 30_000, 45_000, 60_000, 100_000, 200_000]
    tau = [0.5, 0.5 * 0.04**0.3, 0.5 * 0.04**0.45, 0.5 * 0.04**0.6, 0.02, 0.02]
    np.testing.assert_allclose([s.tau(k) for k in corners], tau, rtol=1e-4)
    np.testing.assert_allclose(
        [s.force_one_prob(k) for k in corners], [1, 1, 0.55, 0.1, 0.1, 0.1], rtol=1e-5
    )
    np.testing.assert_allclose(
        [s.location_weight(k) for k in corners], [1, 1, 0.5, 0, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose([s.epsilon(k) for k in corners], 1e-6, rtol=1e-4)


def _toy_params(location, rest, auxiliary):
    lavae = {"location_net": {"w": location}, "f_sprite": {"w": rest}}
    return {"lavae": lavae, "auxiliary": {"w": auxiliary}}


def test_the_papers_learning_rates():
    """Adamax's first update is the learning rate; that of h_loc falls to 1%."""
    optim = build.build_optimizer(dsprites.get_config("paper"))
    params = _toy_params(*[jnp.ones(3)] * 3)
    gradient = optimizer.split(params)
    for step_number, location in ((0, 5e-4), (100_000, 5e-6)):
        updated, _ = optim.update(gradient, optim.init(params), params, step_number)
        expected = _toy_params(*[np.full(3, 1 - r) for r in (location, 1e-3, 1e-3)])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), updated, expected
        )


def test_every_part_is_clipped_on_its_own():
    """A huge gradient elsewhere leaves that of the location network as it is."""
    rates = Parts(*map(optax.constant_schedule, (1, 2, 3)))
    optim = optimizer.make_optimizer(optax.identity(), rates, 1.0)
    params = _toy_params(*[jnp.zeros(2)] * 3)
    gradient = optimizer.split(
        _toy_params(
            jnp.array([0.3, 0.4]), jnp.array([300.0, 400.0]), jnp.array([0.0, 10.0])
        )
    )
    updated, _ = optim.update(gradient, optim.init(params), params, 0)
    expected = _toy_params(*map(np.array, ([-0.3, -0.4], [-1.2, -1.6], [0, -3])))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updated, expected
    )


def test_parts_without_a_gradient_stay_as_they_are():
    """Neither their parameters nor the moments of their optimiser change."""
    rates = Parts(*map(optax.constant_schedule, (1, 2, 3)))
    optim = optimizer.make_optimizer(optax.scale_by_adam(), rates, 1.0)
    params = _toy_params(*[jnp.ones(2)] * 3)
    fresh = optim.init(params)
    _, before = optim.update(optimizer.split(params), fresh, params, 0)
    gradient = Parts(None, optimizer.split(params).rest, None)
    updated, after = optim.update(gradient, before, params, 1)
    assert updated["lavae"]["location_net"] is params["lavae"]["location_net"]
    assert updated["auxiliary"] is params["auxiliary"]
    assert after.location is before.location
    assert after.auxiliary is before.auxiliary
    assert (updated["lavae"]["f_sprite"]["w"] != params["lavae"]["f_sprite"]["w"]).all()
