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
    assert config.warmup.draws == "relaxed"
    assert config.warmup.target == "kl_map"
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
        ("warmup.draws", "relaxed", "needs warmup.draws=mode: got relaxed"),
        ("warmup.target", "kl_map", "warmup.refine=True needs .* got mode and kl_map"),
        ("warmup.location_every", 0, "warmup.location_every must be at least 1: got 0"),
        ("optimizer.learning_rate", 0.0, "optimizer.learning_rate must be positive"),
        ("optimizer.clip_norm", float("nan"), "optimizer.clip_norm must be positive"),
        ("optimizer.final_factor", -0.1, "optimizer.final_factor must be positive"),
        ("warmup.tau_final", 0.0, "warmup.tau_final must be positive: got 0.0"),
        ("warmup.force_one_init", 1.5, "force_one_init must be from 0 to 1: got 1.5"),
        ("warmup.lead_steps", -1, "warmup.lead_steps must be at least 0: got -1"),
        ("touching.steps", 30_000, "got 30000 and 6000 of .*leave -12400 steps"),
        ("num_steps", 9_200, "leave 1600 steps to .* but more than 1600 are needed"),
        ("touching.steps", -1, "touching.steps must be at least 0: got -1"),
        ("importance.num_samples", 0, "num_samples must be at least 1: got 0"),
        ("importance.elbo_share", 1.1, "elbo_share must be from 0 to 1: got 1.1"),
        ("importance.learning_rate", 0.0, "learning_rate must be positive: got 0.0"),
        ("warmup.refine", False, "without warmup.refine .* got 0.1 and 800"),
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


def test_schedules_of_single_parts():
    """The run before their steps is as without them; then one rate rises once more."""
    whole, joint = (dsprites.get_config("laptop") for _ in range(2))
    whole.importance.update(steps=900, learning_rate=5e-4)
    whole.num_steps = 16_000 + 1_600 + 900
    joint.num_steps = 16_000
    joint.touching.steps = joint.importance.steps = 0
    new, old = (
        build.build_optimizer(config).learning_rates for config in (whole, joint)
    )
    for step in (1, 100, 900, 1_000, 8_000, 15_999):
        assert [float(rate(step)) for rate in new] == [
            float(rate(step)) for rate in old
        ]
        epsilon, before = (
            build.build_schedules(config).epsilon(step) for config in (whole, joint)
        )
        assert float(epsilon) == float(before)
    rates = [float(new.location(16_000 + step)) for step in (0, 100, 200, 900, 1_600)]
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, 5.05e-4, 1e-5], rtol=1e-4)
    rates = [float(new.rest(17_600 + step)) for step in (0, 100, 200, 550, 900)]
    np.testing.assert_allclose(rates, [0, 2.5e-4, 5e-4, 2.525e-4, 5e-6], rtol=1e-4)
    recipe = build.build_recipe(whole)
    assert (recipe.joint_steps, recipe.importance_after) == (16_000, 17_600)
    recipe = build.build_recipe(joint)
    assert (recipe.joint_steps, recipe.importance_after) == (None, None)
