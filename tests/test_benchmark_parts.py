"""The parts of a train step that the benchmark times, in steps of other kinds."""

import jax
import pytest

from experiments import benchmark_data, benchmark_parts, benchmark_scenes, build
from experiments.configs import dsprites
from lavae_jax.training import recipe

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def _parts_of_the_last_step(config):
    """The parts of its phase, and what they work on."""
    model = build.build_model(config)
    phase = recipe.phase_at(build.build_recipe(config), config.num_steps)
    parts = [p for p in benchmark_parts.make_parts(config, model) if p.times(phase)]
    state = jax.jit(build.build(config).init)(jax.random.key(0))
    scenes = benchmark_scenes.make("multi_dsprites", 8, model.max_objects)
    data = benchmark_data.make_data(config, model, state, scenes)
    return {part.name: (part, part.times(phase)) for part in parts}, state, data


def test_parts_of_steps_on_touching_scenes():
    """Each can be run, and no part is trained but the location net."""
    config = dsprites.get_config("tiny")
    config.touching.steps = 1
    parts, state, data = _parts_of_the_last_step(config)
    assert list(parts) == [
        "location net",
        "location, forward",
        "sampling of sites",
        "refinement",
        "objects, forward",
        "touching scenes",
        "optimiser, h_loc",
    ]
    made, added = parts["touching scenes"][0].run(state, data)
    assert added.any()
    assert made.x.shape == data.x.shape


def test_parts_of_steps_on_the_importance_weighted_bound():
    """No part is trained but h_app and f_sprite, once, by K draws of each image."""
    config = dsprites.get_config("tiny")
    config.importance.update(steps=1, num_samples=3)
    parts, state, data = _parts_of_the_last_step(config)
    assert {name: times for name, (_, times) in parts.items()} == {
        "location, forward": 1,
        "sampling of sites": 1,
        "weighted bound": 1,
        "optimiser, the rest": 1,
    }
    (log_px, log_ratio), (grad,) = parts["weighted bound"][0].run(state, data)
    assert log_px.shape == log_ratio.shape == (8, 3)
    assert set(grad) == {"appearance_net", "f_sprite", "prior_n_logits"}
