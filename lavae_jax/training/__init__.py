"""Training: schedules, optimiser and the train step, as pure functions.

`parallel.Devices` compiles a train step for one device or for several.
"""

from lavae_jax.training import parallel

__all__ = ["parallel"]
