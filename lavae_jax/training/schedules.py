"""Schedules of training, as optax functions of the step."""

from typing import NamedTuple

import optax


class Schedules(NamedTuple):
    """Holds the schedules besides those of the learning rates.

    Attributes:
        tau: temperature of the Gumbel-softmax.
        epsilon: ε of the likelihood.
    """

    tau: optax.Schedule
    epsilon: optax.Schedule


def exponential(init: float, final: float, steps: int) -> optax.Schedule:
    """Goes from `init` to `final` by a constant factor per step, and stays there."""
    return optax.exponential_decay(init, steps, final / init, end_value=final)
