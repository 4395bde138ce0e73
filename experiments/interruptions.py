"""Interruptions that wait for the end of a step."""

import signal
import sys
import threading

import jax
from jax.experimental import multihost_utils


class Interruptions:
    """Inside a `with` block, notes a first SIGINT or SIGTERM instead of ending.

    A second one acts as it would outside. Python handles signals in its main thread
    only: in another thread, nothing changes.

    Of several processes, all stop after the same step when one of them gets a signal.
    JAX watches for SIGTERM then, and a second SIGTERM does nothing.
    """

    def __init__(self):
        self._several = jax.process_count() > 1
        self._received, self._before = None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            noted = (
                (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM)
            )
            for number in noted:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def due(self, step: int) -> str | None:
        """Asks whether to stop; to be called after every step.

        Args:
          step: Number of steps made.

        Returns:
          What the message calls the interruption, None to go on. Of several processes,
          all are told to stop after the same step.
        """
        if self._several and not multihost_utils.reached_preemption_sync_point(step):
            return None
        return self._received or ("interrupted" if self._several else None)

    def _note(self, number, _):
        self._received = signal.Signals(number).name
        self.__exit__()
        print(
            f"{self._received}: stopping after this step; once more stops at once",
            file=sys.stderr,
        )
        if self._several:
            signal.raise_signal(signal.SIGTERM)
