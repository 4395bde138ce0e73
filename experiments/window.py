"""The metrics of the latest steps, and the guard against runs that diverge."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.checkpoints import Checkpoints


class DivergedError(cli.UserError):
    """A number of the run is not finite.

    Args:
      message: What the user reads.
      step: Where it was seen first.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Window:
    """The metrics since the last report; they stay on the device until needed.

    Args:
      store: The run's checkpoints, which an error names the last good one of.
    """

    def __init__(self, store: Checkpoints):
        self._store = store
        self._waiting, self._fetched = [], []

    def add(self, step: int, metrics: NamedTuple) -> None:
        """Takes the metrics of a step: scalars, None for what it did not compute."""
        self._waiting.append((step, metrics))

    def fetch(self) -> None:
        """Waits for the steps made so far.

        Raises:
          DivergedError: If one has diverged.
        """
        for step, metrics in jax.device_get(self._waiting):
            for name, value in metrics._asdict().items():
                if value is not None and not np.isfinite(value):
                    raise self._diverged(step, f"{name} is {value}")
            self._fetched.append(metrics)
        self._waiting = []

    def mean(self) -> NamedTuple:
        """The mean of every metric over the steps since the last call that have it.

        Raises:
          DivergedError: If a step has diverged.
        """
        self.fetch()
        of_steps, self._fetched = self._fetched, []
        return type(of_steps[0])(*map(_mean, zip(*of_steps, strict=True)))

    def check(self, step: int, state: Any) -> None:
        """Makes sure that a state is a good one.

        Raises:
          DivergedError: If a number in it is not finite.
        """
        if not _is_finite(state):
            raise self._diverged(step, "a parameter is not finite")

    def _diverged(self, step, what):
        last = self._store.latest_step()
        kept = (
            "no checkpoint yet"
            if last is None
            else f"the last good one is of step {last}"
        )
        return DivergedError(
            f"step {step}: {what}: the run has diverged. Checkpoints are kept, {kept}."
            " Start again in another --workdir with smaller learning rates"
            " (--config.optimizer...).",
            step,
        )


def _mean(values):
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


@jax.jit
def _is_finite(state):
    numbers = [
        x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in numbers]))
