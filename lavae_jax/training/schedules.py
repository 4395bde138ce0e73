"""Everything that changes during training, as optax schedules of the step."""

from typing import NamedTuple

import optax


class Schedules(NamedTuple):
    """What changes with the step besides the learning rates.

    Attributes:
        tau: temperature of the Gumbel-softmax.
        epsilon: ε of the likelihood.
    """

    tau: optax.Schedule
    epsilon: optax.Schedule


def exponential(init: float, final: float, steps: int) -> optax.Schedule:
    """From `init` to `final` by a constant factor per step, then constant.

    >>> from lavae_jax.training import schedules
    >>> tau = schedules.exponential(0.5, 0.02, 100_000)
    >>> [round(float(tau(step)), 2) for step in (0, 50_000, 100_000, 200_000)]
    [0.5, 0.1, 0.02, 0.02]
    """
    return optax.exponential_decay(init, steps, final / init, end_value=final)
