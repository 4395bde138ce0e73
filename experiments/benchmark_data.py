"""What the parts of a train step work on when they are timed one by one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import benchmark_scenes
from lavae_jax import LAVAE
from lavae_jax.images import to_float
from lavae_jax.objectives import Reconstruction, reconstruct
from lavae_jax.training.state import TrainState
from lavae_jax.types import Array, Locations, hard_locations


class Data(NamedTuple):
    """What the parts hand to each other in a step.

    Attributes:
      x: [B, H, W, C], binary.
      keys: [B].
      at: Where the objects are; hard, and one-hot vectors too if draws are relaxed.
      h_loc: [B, H, W], with a peak on every object.
      z_app: [B, M, L].
      result: A reconstruction.
    """

    x: Array
    keys: Array
    at: Locations
    h_loc: Array
    z_app: Array
    result: Reconstruction


def make_data(
    config: ConfigDict,
    model: LAVAE,
    state: TrainState,
    scenes: benchmark_scenes.Scenes,
) -> Data:
    """What the parts work on, with objects where they are in the scenes.

    Args:
      config: A run's config.
      model: Its model.
      state: Of the model.
      scenes: A batch.
    """
    x, active = to_float(scenes.images), jnp.asarray(scenes.active)
    keys = jax.random.split(state.key, x.shape[0])
    at = hard_locations(jnp.asarray(scenes.site), active)
    if is_relaxed(config):
        z_loc = jax.nn.one_hot(at.site, model.num_sites) * active[..., None]
        at = at._replace(z_loc=z_loc)

    @jax.jit
    def look(state, x, at):
        def method(bound):
            return reconstruct(bound, x, at, at.active.sum(axis=1), keys)

        return model.apply(state.variables, method=method)

    return Data(
        x=x,
        keys=keys,
        at=at,
        h_loc=model.gamma * benchmark_scenes.peaks(scenes, config.warmup.bump_height),
        z_app=jax.random.normal(state.key, (*active.shape, model.app_dim)),
        result=look(state, x, at),
    )


def is_relaxed(config: ConfigDict) -> bool:
    """Whether draws of locations have a gradient."""
    return config.warmup.draws != "mode"
