"""Interruptions that wait for the end of a step."""

import signal
import sys
import threading

import jax
from jax.experimental import multihost_utils


class Interruptions:
    """Inside a `with` block, notes a first SIGINT or SIGTERM instead of ending.

    Where JAX has joined processes, its preemption service notes SIGTERM, and lets all
    of them stop after the same step. The service does not run in a single process, and
    knows no Ctrl-C: handlers of Python take these. They hand Ctrl-C on to the service
    as SIGTERM. A second signal acts as it would outside. Python handles signals in its
    main thread only: in another thread, nothing changes.
    """

    def __init__(self):
        self._has_service = jax.distributed.is_initialized()
        self._received, self._handlers_before = None, {}

    def __enter__(self):
        noted = [signal.SIGINT]
        if not self._has_service:
            noted.append(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():
            for number in noted:
                self._handlers_before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def received(self, step: int) -> str | None:
        """Tells whether to stop; it has to be called after every step.

        Args:
            step: Number of steps made.

        Returns:
            The name of the signal to stop for, None to go on. Joined processes are all
            told to stop after the same step.
        """
        if not self._has_service:
            return self._received
        if multihost_utils.reached_preemption_sync_point(step):
            return self._received or signal.SIGTERM.name
        return None

    def _note(self, number, _):
        self._received = signal.Signals(number).name
        self.__exit__()
        print(
            f"{self._received}: stopping after this step; once more stops at once",
            file=sys.stderr,
        )
        if self._has_service:
            signal.raise_signal(signal.SIGTERM)
