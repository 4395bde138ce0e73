"""Training: schedules, optimiser and train steps, on one device or on several."""

from lavae_jax.training import baseline, optimizer, parallel, recipe, schedules, step

__all__ = ["baseline", "optimizer", "parallel", "recipe", "schedules", "step"]
