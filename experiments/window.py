"""The metrics of the latest steps, and the guard against runs that diverge."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments import cli, processes
from experiments.checkpoints import Checkpoints
from lavae_jax.training.guard import Guarded

MAX_SKIPPED = 10
"""So many steps in a row that were skipped are no accident any more."""


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
      parts: Names of the parts of the state, as `guard.names` gives them.
      rows: What `rows` gave when the run was stored, of a run that goes on.
      label: What an error begins with, where there are other models.
    """

    def __init__(
        self,
        store: Checkpoints,
        parts: Sequence[str] = (),
        rows: Sequence[dict[str, float]] = (),
        label: str = "",
    ):
        self._store, self._parts, self._label = store, parts, label
        self._waiting, self._rows = [], list(rows)
        self._kind, self._num_skipped = None, 0

    def add(self, step: int, guarded: Guarded) -> None:
        """Takes the metrics of a step.

        Args:
          step: Its number.
          guarded: Scalars, None for what it did not compute, and what it has spoilt.
        """
        self._kind = type(guarded.metrics)
        self._waiting.append((step, guarded))

    def fetch(self) -> None:
        """Waits for the steps made so far.

        Raises:
          DivergedError: If one has diverged, or too many in a row were skipped.
        """
        waiting, self._waiting = jax.device_get(self._waiting), []
        skipped = []
        for step, (metrics, spoilt) in waiting:
            row = {k: float(v) for k, v in metrics._asdict().items() if v is not None}
            if row.get("skipped"):
                skipped.append((step, self._wrong(row, spoilt)))
                self._skip(*skipped[-1])
                row = {"skipped": 1.0}
            elif wrong := self._wrong(row, spoilt):
                raise self._diverged(step, wrong)
            else:
                self._num_skipped = 0
            self._rows.append(row)
        if skipped and processes.is_first():
            (step, wrong), *more = skipped
            others = f", and {len(more)} more" if more else ""
            cli.warn(
                f"{self._label}step {step} is skipped{others}: {wrong}."
                f" {self._store.kept()}"
            )

    def _wrong(self, row, spoilt):
        """What is not finite, None if all is."""
        wrong = [f"{k} is {v}" for k, v in row.items() if not np.isfinite(v)]
        if wrong:
            return ", ".join(wrong)
        of_state = [self._parts[index] for index in np.flatnonzero(spoilt)]
        return f"the gradient of {of_state[0]} is not finite" if of_state else None

    def _skip(self, step, wrong):
        """Counts a step that was skipped."""
        self._num_skipped += 1
        if self._num_skipped == MAX_SKIPPED:
            raise self._diverged(
                step, f"{wrong}, and {MAX_SKIPPED} steps in a row were skipped"
            )

    def rows(self) -> list[dict[str, float]]:
        """The metrics of each step since the last report, as JSON can hold them."""
        self.fetch()
        return list(self._rows)

    def mean(self) -> NamedTuple:
        """The mean of every metric over the steps since the last call that have it.

        Raises:
          DivergedError: If a step has diverged.
        """
        self.fetch()
        rows, self._rows = self._rows, []
        return self._kind(**{name: _mean(name, rows) for name in self._kind._fields})

    def _diverged(self, step, what):
        return DivergedError(
            f"{self._label}step {step}: {what}: the run has diverged."
            f" {self._store.kept()} Start again in another --workdir with smaller"
            " learning rates (--config.optimizer...).",
            step,
        )


def _mean(name, rows):
    measured = [row[name] for row in rows if name in row]
    return float(np.mean(measured)) if measured else None
