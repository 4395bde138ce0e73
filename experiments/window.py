"""The metrics of the latest steps, and the guard against runs that diverge."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.checkpoints import Checkpoints


class Window:
    """The metrics since the last report; they stay on the device until needed.

    Args:
      store: The run's checkpoints, which an error names the last good one of.
      rows: What `rows` gave when the run was stored, of a run that goes on.
    """

    def __init__(self, store: Checkpoints, rows: Sequence[dict[str, float]] = ()):
        self._store = store
        self._waiting, self._rows = [], list(rows)
        self._kind = None

    def add(self, step: int, metrics: NamedTuple) -> None:
        """Takes the metrics of a step: scalars, None for what it did not compute."""
        self._kind = type(metrics)
        self._waiting.append((step, metrics))

    def fetch(self) -> None:
        """Waits for the steps made so far.

        Raises:
          cli.UserError: If one has diverged.
        """
        for step, metrics in jax.device_get(self._waiting):
            row = {k: float(v) for k, v in metrics._asdict().items() if v is not None}
            for name, value in row.items():
                if not np.isfinite(value):
                    raise self._diverged(f"step {step}: {name} is {value}")
            self._rows.append(row)
        self._waiting = []

    def rows(self) -> list[dict[str, float]]:
        """The metrics of each step since the last report, as JSON can hold them."""
        self.fetch()
        return list(self._rows)

    def mean(self) -> NamedTuple:
        """The mean of every metric over the steps since the last call that have it.

        Raises:
          cli.UserError: If a step has diverged.
        """
        self.fetch()
        rows, self._rows = self._rows, []
        return self._kind(**{name: _mean(name, rows) for name in self._kind._fields})

    def check(self, step: int, state: Any) -> None:
        """Makes sure that a state is a good one.

        Raises:
          cli.UserError: If a number in it is not finite.
        """
        if not _is_finite(state):
            raise self._diverged(f"step {step}: a parameter is not finite")

    def _diverged(self, what):
        return cli.UserError(
            f"{what}: the run has diverged. {self._store.kept()} Start"
            " again in another --workdir with smaller learning rates"
            " (--config.optimizer...)."
        )


def _mean(name, rows):
    measured = [row[name] for row in rows if name in row]
    return float(np.mean(measured)) if measured else None


@jax.jit
def _is_finite(state):
    numbers = [
        x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in numbers]))
