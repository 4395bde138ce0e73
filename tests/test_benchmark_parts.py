"""The parts of a train step that the benchmark times, in steps of other kinds."""

import jax
import pytest

from experiments import benchmark_parts, benchmark_scenes, build
from experiments.configs import dsprites
from lavae_jax.training import recipe

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def test_parts_of_steps_on_touching_scenes():
    """Each can be run, and no part is trained but the location net."""
    config = dsprites.get_config("tiny")
    config.touching.steps = 1
    model = build.build_model(config)
    phase = recipe.phase_at(build.build_recipe(config), config.num_steps)
    parts = [p for p in benchmark_parts.make_parts(config, model) if p.times(phase)]
    assert [part.name for part in parts] == [
        "location net",
        "location, forward",
        "sampling of sites",
        "refinement",
        "objects, forward",
        "touching scenes",
        "optimiser, h_loc",
    ]
    state = jax.jit(build.build(config).init)(jax.random.key(0))
    scenes = benchmark_scenes.make("multi_dsprites", 8, model.max_objects)
    data = benchmark_parts.make_data(config, model, state, scenes)
    made, added = parts[5].run(state, data)
    assert added.any()
    assert made.x.shape == data.x.shape
