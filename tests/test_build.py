"""A config gives an experiment, or a message that says what is wrong with it."""

import importlib
import json
import re

import pytest

import lavae_jax
from datasets import load
from experiments.configs import base, baseline, coloured, dsprites, mnist_1k
from experiments.run import build, limits
from lavae_jax import config as model_configs
from tests import reference
from tests.tiny_runs import CONFIG

CONFIGS = {  # with the data sets they are for
    "dsprites": "multi_dsprites",
    "mnist_1k": "multi_mnist/1k",
    "mnist_10k": "multi_mnist/10k",
}


@pytest.mark.parametrize("variant", base.VARIANTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_variant_builds(name, variant):
    """A variant's model has the image and sprite sizes of its data set."""
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


@pytest.mark.parametrize("name", ["coloured", "tetrominoes"])
@pytest.mark.parametrize("variant", base.VARIANTS)
def test_configs_of_other_data_sets(name, variant):
    """The model has the image size of its data set, and takes its pixels."""
    config = importlib.import_module(f"experiments.configs.{name}").get_config(variant)
    model = build.build(config).model
    assert model.image_shape == load.image_shape(config.data.name)
    assert model.is_binary == load.is_binary(config.data.name)
    assert model.count_threshold == 4 * model.gamma


@pytest.mark.parametrize("name", CONFIGS)
def test_the_paper_is_the_default(name):
    """The defaults are the values that Appendix B fixes."""
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.norm", "other"),
        ("model.sprite_size", 20),
        ("model.stem_stride", 0),
        ("model.epsilon", 0.0),
        ("model.exclusion_radius", 13),
        ("model.max_objects", 100),
        ("model.appearance_net", "trunk"),
        ("elbo.draws", "relaxed"),
        ("optimizer.clip_norm", float("nan")),
        ("warmup.auxiliary_channels", 1),
        ("tighten.steps", 100_000),
    ],
)
def test_impossible_values_are_refused(field, value):
    """Impossible values are refused, alone or with others, by field and value."""
    config = dsprites.get_config("laptop")
    config.model.channels = 18  # of no consequence for a glimpse
    _assert_refused(config, field, value)


def test_proposals_without_a_weight_or_a_step():
    """One more object can't be proposed where no proposal has a weight, or no step."""
    config = dsprites.get_config("laptop")
    config.elbo.wake_one_more = True
    limits.check(config)
    config.elbo.wake_weight = 0.0
    with pytest.raises(ValueError, match=r"elbo\.wake_weight"):
        limits.check(config)
    config = coloured.get_config("laptop")
    warmup, tighten = config.warmup, config.tighten.steps
    num_elbo = config.num_steps - tighten - warmup.auxiliary_steps - warmup.guided_steps
    config.elbo.apart_steps = num_elbo - 1
    limits.check(config)
    config.elbo.apart_steps = num_elbo
    with pytest.raises(ValueError, match=rf"elbo\.apart_steps.* {num_elbo} of"):
        limits.check(config)


def test_impossible_values_of_the_baseline():
    """Impossible values of the baseline are refused in the same way."""
    values = {"model.stem_stride": 3, "model.image_shape": (64, 60, 3)}
    for field, value in {**values, "model.kind": "lavae", "beta.final": -1.0}.items():
        _assert_refused(baseline.get_config("dsprites:laptop"), field, value)


def _assert_refused(config, field, value):
    build.build(config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=re.escape(field)) as refusal:
        build.build(config)
    assert str(value) in str(refusal.value)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_every_object_has_a_site_left(radius):
    """At most so many objects are allowed that the others' discs leave each a site."""
    config = dsprites.get_config("laptop")
    config.model.update(image_shape=(8, 12, 3), exclusion_radius=radius)
    disc = reference.disc(4 * 12 + 6, 8, 12, radius)
    config.model.max_objects = (8 * 12 - 1) // len(disc) + 1
    limits.check(config)
    config.model.max_objects += 1
    with pytest.raises(ValueError, match=r"model\.exclusion_radius"):
        limits.check(config)


# These tests read a model's config from a file.


def test_through_json_and_back():
    """A config survives its file: tuples and whole numbers keep their types."""
    text = json.dumps({"model": CONFIG._asdict()})
    again = model_configs.from_run(json.loads(text))
    assert again == CONFIG and isinstance(again.image_shape, tuple)
    whole = model_configs.from_run({"model": {**CONFIG._asdict(), "gamma": 2}})
    assert whole == CONFIG and isinstance(whole.gamma, float)


@pytest.mark.parametrize("variant", base.VARIANTS)
def test_a_runs_config_builds_the_same_model(variant):
    """A run's config file gives the same model as the experiment."""
    config = mnist_1k.get_config(variant)
    stored = json.loads(config.to_json())
    from_file = model_configs.from_run(stored)
    assert lavae_jax.build_model(from_file) == build.build_model(config)
    assert from_file.image_shape == (64, 64, 1)


def test_missing_values_are_refused():
    """No missing value is made up, but for the limits, which earlier models lack."""
    values = CONFIG._asdict()
    del values["mean_limit"], values["logvar_limit"]
    assert model_configs.from_run({"model": values}) == CONFIG
    del values["gamma"], values["channels"]
    with pytest.raises(ValueError, match="channels, gamma"):
        model_configs.from_run({"model": values})
    for config in ({}, {"model": "lavae"}, CONFIG._asdict()):
        with pytest.raises(ValueError, match="`model`"):
            model_configs.from_run(config)
