"""The metrics of the latest steps, and the error of a run that diverges."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.run.checkpoints import Checkpoints


class DivergedError(cli.UserError):
    """A number of the run is not finite; `step` is where it was seen first."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Window:
    """The metrics of the steps since the last report, which must be finite.

    They stay on the device until they are needed, so that no step waits for them.
    `optax.apply_if_finite` would pass over the gradients of a bad step without a word;
    a run is meant to end there, with a message that says what was wrong and names the
    last good checkpoint. A run that goes on starts with the rows it was stored with.
    """

    def __init__(self, store: Checkpoints, rows: Sequence[dict[str, float]] = ()):
        self._store, self._waiting, self._rows = store, [], list(rows)
        self._kind = None

    def add(self, step: int, metrics: NamedTuple) -> None:
        """Takes the metrics of a step: scalars, None for what it did not compute."""
        self._kind = type(metrics)
        self._waiting.append((step, metrics))

    def rows(self) -> list[dict[str, float]]:
        """Waits for the steps made so far, and returns their metrics for JSON.

        Raises:
            DivergedError: If one of them is not finite.
        """
        waiting, self._waiting = jax.device_get(self._waiting), []
        for step, metrics in waiting:
            row = {k: float(v) for k, v in metrics._asdict().items() if v is not None}
            wrong = [f"{k} is {v}" for k, v in row.items() if not np.isfinite(v)]
            if wrong:
                raise self._diverged(step, ", ".join(wrong))
            self._rows.append(row)
        return list(self._rows)

    def mean(self) -> NamedTuple:
        """The mean of every metric over the steps since the last call that have it.

        Raises:
            DivergedError: If one of them is not finite.
        """
        rows, self._rows = self.rows(), []
        return self._kind(**{name: _mean(name, rows) for name in self._kind._fields})

    def check_state(self, step: int, state: Any) -> None:
        """Makes sure that a state on one device is finite, before it is stored.

        Raises:
            DivergedError: If an array is not; the message names it.
        """
        for path, leaf in jax.tree.leaves_with_path(state):
            is_real = jnp.issubdtype(leaf.dtype, jnp.inexact)
            if is_real and not np.isfinite(leaf).all():
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                raise self._diverged(step, f"{name} is not finite")

    def _diverged(self, step, what):
        return DivergedError(
            f"step {step}: {what}: the run has diverged. {self._store.kept()} Start"
            " again in another --workdir with smaller learning rates"
            " (--config.optimizer...).",
            step,
        )


def _mean(name, rows):
    measured = [row[name] for row in rows if name in row]
    return float(np.mean(measured)) if measured else None
