"""A model's config: through JSON and back, or a message that says what is wrong."""

import json

import pytest

import lavae_jax
from experiments.configs import base, mnist_1k
from experiments.run import build
from lavae_jax import config as model_configs
from tests.tiny_runs import CONFIG


def test_through_json_and_back():
    """A config survives its file: tuples and whole numbers keep their types."""
    text = json.dumps({"model": CONFIG._asdict()})
    again = model_configs.from_run(json.loads(text))
    assert again == CONFIG and isinstance(again.image_shape, tuple)
    whole = model_configs.from_run({"model": {**CONFIG._asdict(), "gamma": 2}})
    assert whole == CONFIG and isinstance(whole.gamma, float)


@pytest.mark.parametrize("variant", base.VARIANTS)
def test_a_runs_config_builds_the_same_model(variant):
    """From its file as from the experiment, which has no second recipe for it."""
    config = mnist_1k.get_config(variant)
    stored = json.loads(config.to_json())
    from_file = model_configs.from_run(stored)
    assert lavae_jax.build_model(from_file) == build.build_model(config)
    assert from_file.image_shape == (64, 64, 1)


def test_missing_values_are_refused():
    """No value is made up; nor is the config of something else taken for a run's."""
    values = CONFIG._asdict()
    del values["gamma"], values["channels"]
    with pytest.raises(ValueError, match="the model's config lacks channels, gamma"):
        model_configs.from_run({"model": values})
    for config in ({}, {"model": "lavae"}, CONFIG._asdict()):
        with pytest.raises(ValueError, match="no part `model`"):
            model_configs.from_run(config)
