"""The phases of a run, and the train step of each for any form of the model."""

import collections
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments import build
from lavae_jax import LAVAE
from lavae_jax.training import recipe as recipes
from lavae_jax.training import step as steps


class Occurrence(NamedTuple):
    """A phase, where a run first comes to it, and for how many steps in all."""

    phase: recipes.Phase
    first_step: int
    num_steps: int

    @property
    def name(self) -> str:
        """What is trained."""
        if self.phase.touching:
            return "location net on touching scenes"
        if self.phase.importance:
            return "objects on the importance-weighted bound"
        trained = ["auxiliary VAE"] * self.phase.auxiliary
        if self.phase.lavae:
            trained += ["location net"] * self.phase.location
            trained += ["objects at KL peaks" if self.phase.propose else "objects"]
        return ", ".join(trained)


def occurring(config: ConfigDict) -> list[Occurrence]:
    """The phases of a config's run, in the order in which they first occur."""
    at = functools.partial(recipes.phase_at, build.build_recipe(config))
    counted = collections.Counter(map(at, range(1, config.num_steps + 1)))
    first = {at(step): step for step in range(config.num_steps, 0, -1)}
    return [Occurrence(phase, first[phase], count) for phase, count in counted.items()]


def make_train_step(
    config: ConfigDict, model: LAVAE, phase: recipes.Phase
) -> Callable[..., Any]:
    """The train step that `build.build` would give, for another form of its model."""
    return steps.make_train_step(
        model,
        build.build_auxiliary(config),
        build.build_optimizer(config),
        build.build_schedules(config),
        build.build_recipe(config),
        phase,
    )
