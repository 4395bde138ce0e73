"""A model's config: through JSON and back, or a message that says what is wrong."""

import dataclasses
import json
import typing

import pytest

import lavae_jax
from experiments.configs import base, mnist_1k
from experiments.run import build, limits
from lavae_jax import config as model_configs
from tests.tiny_runs import CONFIG


def test_through_json_and_back():
    """A config survives its file: tuples and whole numbers keep their types."""
    text = json.dumps(CONFIG._asdict())
    again = lavae_jax.ModelConfig.from_dict(json.loads(text))
    assert again == CONFIG and isinstance(again.image_shape, tuple)
    whole = lavae_jax.ModelConfig.from_dict({**CONFIG._asdict(), "gamma": 2})
    assert whole == CONFIG and isinstance(whole.gamma, float)


def test_every_value_reaches_the_model():
    """Those that it shares are its fields; the others are those of its networks."""
    model = lavae_jax.build_model(CONFIG, "devices")
    fields = {field.name for field in dataclasses.fields(model)}
    shared = fields & set(CONFIG._fields) - {"appearance_net"}
    assert len(shared) == 10
    for name in shared:
        assert getattr(model, name) == getattr(CONFIG, name)
    trunk = model.location_net.trunk
    assert (trunk.channels, trunk.norm, trunk.axis_name) == (4, "none", "devices")
    assert (model.location_net.hidden, model.location_net.output_scale) == (8, 9.0)
    appearance = model.appearance_net
    assert (appearance.glimpse_size, appearance.width, appearance.app_dim) == (7, 11, 4)
    assert (model.f_sprite.sprite_size, model.f_sprite.image_channels) == (5, 2)
    other = CONFIG._replace(appearance_net="trunk", sprite_net="conv", norm="batch")
    model = lavae_jax.build_model(other)
    assert model.appearance_net.trunk.norm == "batch" and model.axis_name is None
    assert (model.f_sprite.sprite_size, model.f_sprite.channels) == (5, 4)


@pytest.mark.parametrize("variant", base.VARIANTS)
def test_a_runs_config_builds_the_same_model(variant):
    """From its file as from the experiment, which has no second recipe for it."""
    config = mnist_1k.get_config(variant)
    stored = json.loads(config.to_json())
    from_file = model_configs.from_run(stored)
    assert lavae_jax.build_model(from_file) == build.build_model(config)
    assert from_file.image_shape == (64, 64, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_objects": 2.0}, r"model.max_objects must be a whole number: got 2.0"),
        ({"width": True}, r"model.width must be a whole number: got True"),
        ({"gamma": "4"}, r"model.gamma must be a number: got '4'"),
        ({"epsilon": None}, r"model.epsilon must be a number: got None"),
        ({"norm": "layer"}, r"model.norm must be one of batch, none: got 'layer'"),
        ({"sprite_net": ["mlp"]}, r"must be one of conv, mlp: got \['mlp'\]"),
        ({"image_shape": [64, 64]}, r"model.image_shape must be three whole numbers"),
        ({"image_shape": [64, 64, 3.0]}, r"three whole numbers: got \[64, 64, 3.0\]"),
        ({"image_shape": 64}, r"must be three whole numbers: got 64"),
        ({"chanels": 4, "size": 1}, r"has unknown chanels, size: .* another version"),
    ],
)
def test_wrong_values_are_refused(changes, message):
    """Naming the field, what it may be, and what it is."""
    with pytest.raises(ValueError, match=message):
        lavae_jax.ModelConfig.from_dict({**CONFIG._asdict(), **changes})


def test_missing_values_are_refused():
    """No value is made up; nor is the config of something else taken for a run's."""
    values = CONFIG._asdict()
    del values["gamma"], values["channels"]
    with pytest.raises(ValueError, match="the model's config lacks channels, gamma"):
        lavae_jax.ModelConfig.from_dict(values)
    for config in ({}, {"model": "lavae"}, CONFIG._asdict()):
        with pytest.raises(ValueError, match="no part `model`"):
            model_configs.from_run(config)


def test_choices_are_those_of_the_experiments():
    """What the command line accepts for a model is what a model can be built from."""
    choices = {
        f"model.{name}": typing.get_args(kind)
        for config in (lavae_jax.ModelConfig, lavae_jax.BaselineConfig)
        for name, kind in typing.get_type_hints(config).items()
        if typing.get_origin(kind) is typing.Literal and name != "kind"
    }
    theirs = {k: v for k, v in limits.CHOICES.items() if k.startswith("model.")}
    assert choices == theirs
