"""Everything that changes during training, as optax schedules of the step."""

from typing import NamedTuple

import optax


class Schedules(NamedTuple):
    """Appendix B's schedules and those of the lighter recipe.

    Attributes:
        tau: temperature of the Gumbel-softmax.
        epsilon: ε of the likelihood.
        force_one_prob: probability that an image is explained with one object.
        location_weight: weight of the squared loss on h_loc.
        bump_sigma: width of the target bumps on h_loc, px.
    """

    tau: optax.Schedule
    epsilon: optax.Schedule
    force_one_prob: optax.Schedule
    location_weight: optax.Schedule
    bump_sigma: optax.Schedule


def exponential(init: float, final: float, steps: int) -> optax.Schedule:
    """From `init` to `final` by a constant factor per step, then constant.

    >>> from lavae_jax.training import schedules
    >>> tau = schedules.exponential(0.5, 0.02, 100_000)
    >>> [round(float(tau(step)), 2) for step in (0, 50_000, 100_000, 200_000)]
    [0.5, 0.1, 0.02, 0.02]
    """
    return optax.exponential_decay(init, steps, final / init, end_value=final)


def hold_then_linear(
    init: float, final: float, hold: int, steps: int
) -> optax.Schedule:
    """`init` for `hold` steps, then linearly to `final` within `steps`.

    >>> from lavae_jax.training import schedules
    >>> weight = schedules.hold_then_linear(1.0, 0.0, hold=30, steps=30)
    >>> [round(float(weight(step)), 2) for step in (0, 30, 45, 60, 90)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    return optax.linear_schedule(init, final, max(steps, 1), transition_begin=hold)
