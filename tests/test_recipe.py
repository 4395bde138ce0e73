"""Stages, schedules and each part's updates change in a run as the config says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.configs import coloured, dsprites
from experiments.run import build_training
from lavae_jax.training import optimizer, recipe
from lavae_jax.training.optimizer import Parts

# optax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


@pytest.mark.parametrize(
    ("module", "variant"),
    [(dsprites, "paper"), (dsprites, "laptop"), (coloured, "laptop")],
)
def test_the_stages_of_the_configs(module, variant):
    """Stages come in order and last as long as the config says, the last to the end."""
    config = module.get_config(variant)
    settings = build_training.build_recipe(config)
    steps = range(1, config.num_steps + 1)
    stages = [recipe.stage_at(settings, step) for step in steps]
    warmup, tighten = config.warmup, config.tighten.steps
    learning = config.num_steps - settings.warmup_steps - tighten
    counted = [
        ("auxiliary", warmup.auxiliary_steps),
        ("guided", warmup.guided_steps),
        ("apart", config.elbo.apart_steps),
        ("elbo", learning - config.elbo.apart_steps),
        ("tighten", tighten),
    ]
    expected = [stage for stage, number in counted for _ in range(number)]
    assert stages == expected


def test_the_papers_temperature():
    """τ falls from 0.5 to 0.02 in 100,000 steps, which begin when draws need it."""
    config = dsprites.get_config("paper")
    s, first = build_training.build_schedules(config), 3_000
    assert config.warmup.auxiliary_steps + config.warmup.guided_steps == first
    corners = [0, first, first + 50_000, first + 100_000, 300_000]
    tau = [0.5, 0.5, 0.5 * 0.04**0.5, 0.02, 0.02]
    np.testing.assert_allclose([s.tau(k) for k in corners], tau, rtol=1e-4)
    halfway = [1e-2, 1e-4, 1e-6]  # ε falls in all 300,000 steps
    found = [s.noise(k) for k in (0, 150_000, 300_000)]
    np.testing.assert_allclose(found, halfway, rtol=1e-3)


def test_the_laptops_schedules():
    """ε and the rates have reached their ends where the last stage begins."""
    config = dsprites.get_config("laptop")
    last = config.num_steps - config.tighten.steps
    epsilon = build_training.build_schedules(config).noise
    np.testing.assert_allclose([epsilon(0), epsilon(last)], [1e-2, 1e-6], rtol=1e-3)
    config.model.update(pixels="gaussian", sigma=0.05)
    sigma = build_training.build_schedules(config).noise
    np.testing.assert_allclose([sigma(0), sigma(last)], [0.3, 0.05], rtol=1e-3)
    config.model.sigma = 0.0  # it is learned
    assert build_training.build_schedules(config).noise is None
    rates, c = build_training.build_optimizer(config).learning_rates, config.optimizer
    first = config.warmup.auxiliary_steps + config.warmup.guided_steps
    rise = c.rise_steps
    for name, rate in [
        ("location", c.location_learning_rate),
        ("rest", c.learning_rate),
        ("prior", c.learning_rate),
    ]:
        schedule = getattr(rates, name)
        steps = [0, first - 1, first, first + rise, last - 1]
        expected = [c.warmup_learning_rate] * 2 + [0, rate, rate * c.final_factor]
        np.testing.assert_allclose([schedule(k) for k in steps], expected, atol=1e-6)
    steps = [last, last + rise, config.num_steps]
    rate = config.tighten.learning_rate
    expected = [0, rate, rate * c.final_factor]
    for schedule in (rates.rest, rates.prior):
        np.testing.assert_allclose([schedule(k) for k in steps], expected, atol=1e-6)


def _toy_params(location, rest, prior_n, auxiliary):
    lavae = {
        "location_net": {"w": location},
        "f_sprite": {"w": rest},
        "prior_n_logits": prior_n,
    }
    return {"lavae": lavae, "auxiliary": {"w": auxiliary}}


def test_the_papers_learning_rates():
    """Adamax's first update is the learning rate; that of h_loc falls to 1%."""
    optim = build_training.build_optimizer(dsprites.get_config("paper"))
    params = _toy_params(*[jnp.ones(3)] * 4)
    gradient = optimizer.split(params)
    for step, location in ((0, 1e-3), (3_000, 5e-4), (103_000, 5e-6)):
        updated, _ = optim.update(gradient, optim.init(params), params, step)
        expected = _toy_params(*[np.full(3, 1 - r) for r in (location, *[1e-3] * 3)])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), updated, expected
        )


def test_every_part_is_clipped_on_its_own():
    """A huge gradient elsewhere leaves the location network's gradient as it is."""
    rates = Parts(*map(optax.constant_schedule, (1, 2, 2, 3)))
    optim = optimizer.make_optimizer(optax.identity(), rates, 1.0)
    params = _toy_params(*[jnp.zeros(2)] * 4)
    gradient = optimizer.split(
        _toy_params(
            jnp.array([0.3, 0.4]),
            jnp.array([300.0, 400.0]),
            jnp.array([0.5, 0.0]),
            jnp.array([0.0, 10.0]),
        )
    )
    updated, _ = optim.update(gradient, optim.init(params), params, 0)
    values = ([-0.3, -0.4], [-1.2, -1.6], [-1, 0], [0, -3])
    expected = _toy_params(*map(np.array, values))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updated, expected
    )
