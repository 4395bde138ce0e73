"""Schedules of training, as optax functions of the step."""

from typing import NamedTuple

import optax


class Schedules(NamedTuple):
    """Holds the schedules besides those of the learning rates.

    Attributes:
        tau: temperature of the Gumbel-softmax.
        noise: ε or σ of the likelihood; None if the model learns σ.
    """

    tau: optax.Schedule
    noise: optax.Schedule | None


def exponential(init: float, final: float, steps: int) -> optax.Schedule:
    """Goes from `init` to `final` by a constant factor per step, and stays there."""
    return optax.exponential_decay(init, steps, final / init, end_value=final)
