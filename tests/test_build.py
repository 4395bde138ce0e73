"""From a config to an experiment, or to a message that says what is wrong with it."""

import importlib

import numpy as np
import pytest

from experiments.configs import base, dsprites
from experiments.run import build, limits
from tests import reference

CONFIGS = {  # with the data sets they are for
    "dsprites": "multi_dsprites",
    "mnist_1k": "multi_mnist/1k",
    "mnist_10k": "multi_mnist/10k",
}


@pytest.mark.parametrize("variant", base.VARIANTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_variant_builds(name, variant):
    """With the image and sprite sizes of its data set."""
    module = importlib.import_module(f"experiments.configs.{name}")
    config = module.get_config(variant)
    model = build.build(config).model
    channels, side = (3, 21) if name == "dsprites" else (1, 17)
    tiny = CONFIGS[name].partition("/")[0] + "/tiny"
    assert config.data.name == (tiny if variant == "tiny" else CONFIGS[name])
    assert (model.image_shape, model.sprite_size) == ((64, 64, channels), side)
    assert (model.max_objects, model.app_dim, model.gamma) == (10, 32, 4.0)
    assert model.count_threshold == 4 * model.gamma
    assert build.build(config, "batch").model.axis_name is None  # to look at images


@pytest.mark.parametrize("name", CONFIGS)
def test_the_paper_is_the_default(name):
    """What Appendix B fixes."""
    config = importlib.import_module(f"experiments.configs.{name}").get_config()
    rate = 5e-4 if name == "dsprites" else 1e-4
    assert config.batch_size == 64
    assert config.optimizer.name == "adamax"
    assert config.optimizer.learning_rate == 1e-3
    assert config.optimizer.location_learning_rate == rate
    assert config.elbo.draws == "relaxed"
    assert (config.elbo.tau_init, config.elbo.tau_final) == (0.5, 0.02)
    assert config.elbo.tau_steps == 100_000
    assert config.model.exclusion_radius == 0


def test_unknown_variants_are_refused():
    """With the list of those there are."""
    with pytest.raises(ValueError, match=r"'large'.*paper, laptop, tiny"):
        dsprites.get_config("large")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *[
            (name, "other", rf"{name} must be one of {', '.join(choices)}: got other")
            for name, choices in limits.CHOICES.items()
        ],
        ("model.sprite_size", 20, "model.sprite_size must be odd: got 20"),
        ("model.glimpse_size", 0, "model.glimpse_size must be odd: got 0"),
        ("model.max_objects", 0, "model.max_objects must be at least 1: got 0"),
        ("model.app_dim", 0, "model.app_dim must be at least 1: got 0"),
        ("model.channels", -1, "model.channels must be at least 1: got -1"),
        ("model.width", 0, "model.width must be at least 1: got 0"),
        ("model.stem_stride", 0, "model.stem_stride must be at least 1: got 0"),
        ("model.stem_stride", 3, "model.stem_stride must divide .* got 3 for"),
        ("model.epsilon", 0.0, r"model.epsilon must be in \(0, 0.5\): got 0.0"),
        ("model.epsilon_init", 0.5, "model.epsilon_init must be in"),
        ("model.exclusion_radius", 13, r"radius=13 px .* 9 \* 529 of 4096 sites"),
        ("model.max_objects", 100, "may cover all of a 64x64 image.* got 100"),
        ("model.appearance_net", "trunk", "multiple of model.stem_stride².* 18 and 2"),
        ("elbo.draws", "relaxed", "needs elbo.draws=score: got relaxed"),
        ("elbo.location_every", 0, "elbo.location_every must be at least 1: got 0"),
        ("elbo.num_draws", 0, "elbo.num_draws must be at least 1: got 0"),
        ("elbo.superpose", 1.5, "elbo.superpose must be from 0 to 1: got 1.5"),
        ("elbo.count_temperature", 0.0, "count_temperature must be positive: got 0.0"),
        ("optimizer.learning_rate", 0.0, "optimizer.learning_rate must be positive"),
        ("optimizer.clip_norm", float("nan"), "optimizer.clip_norm must be positive"),
        ("optimizer.final_factor", -0.1, "optimizer.final_factor must be positive"),
        ("elbo.tau_final", 0.0, "elbo.tau_final must be positive: got 0.0"),
        ("warmup.guided_steps", -1, "warmup.guided_steps must be at least 0: got -1"),
        ("tighten.steps", 30_000, "got 30000 of .* which leave fewer than the 600"),
        ("tighten.steps", -1, "tighten.steps must be at least 0: got -1"),
        ("tighten.num_draws", 0, "num_draws must be at least 1: got 0"),
        ("tighten.elbo_share", 1.1, "elbo_share must be from 0 to 1: got 1.1"),
        ("tighten.learning_rate", 0.0, "learning_rate must be positive: got 0.0"),
    ],
)
def test_impossible_values_are_refused(field, value, message):
    """Naming the field, what is possible, and the value."""
    config = dsprites.get_config("laptop")
    config.model.channels = 18  # of no consequence for a glimpse
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        build.build(config)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_impossible_seeds_are_refused(seed):
    """Before the shuffling of the data would fail on them."""
    config = dsprites.get_config("laptop")
    config.seed = seed
    with pytest.raises(ValueError, match=f"seed must be from 0 to .* got {seed}"):
        build.build(config)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_every_object_has_a_site_left(radius):
    """The most objects allowed are those whose discs, all apart, leave one free."""
    config = dsprites.get_config("laptop")
    config.model.update(image_shape=(8, 12, 3), exclusion_radius=radius)
    disc = reference.disc(4 * 12 + 6, 8, 12, radius)
    config.model.max_objects = (8 * 12 - 1) // len(disc) + 1
    limits.check(config)
    config.model.max_objects += 1
    with pytest.raises(ValueError, match="may cover all of a 8x12 image"):
        limits.check(config)


def test_schedules_follow_the_stages():
    """Rates begin anew after the warm-up and at the last stage; ε falls until then."""
    config = dsprites.get_config("laptop")
    config.num_steps, config.tighten.steps = 10_000, 1_000
    config.tighten.learning_rate = 5e-4
    rates = build.build_optimizer(config).learning_rates
    assert float(rates.location(599)) == pytest.approx(2e-3)
    location = [float(rates.location(600 + step)) for step in (0, 50, 100, 8_400)]
    np.testing.assert_allclose(location, [0, 5e-5, 1e-4, 2e-6], rtol=1e-4)
    rest = [float(rates.rest(9_000 + step)) for step in (0, 50, 100, 1_000)]
    np.testing.assert_allclose(rest, [0, 2.5e-4, 5e-4, 1e-5], rtol=1e-4)
    epsilon = build.build_schedules(config).epsilon
    values = [float(epsilon(step)) for step in (0, 4_500, 9_000, 10_000)]
    np.testing.assert_allclose(values, [1e-2, 1e-4, 1e-6, 1e-6], rtol=1e-3)
    assert build.build_recipe(config).tighten_after == 9_000
    config.tighten.steps = 0
    assert build.build_recipe(config).tighten_after is None


def test_tau_begins_after_the_warm_up():
    """Its fall takes `tau_steps` steps of the ELBO, not of the warm-up."""
    config = dsprites.get_config("paper")
    config.warmup.update(auxiliary_steps=30, guided_steps=20)
    tau = build.build_schedules(config).tau
    values = [float(tau(step)) for step in (0, 50, 50_050, 100_050, 200_000)]
    np.testing.assert_allclose(values, [0.5, 0.5, 0.1, 0.02, 0.02], rtol=1e-4)
