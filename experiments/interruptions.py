"""Interruptions that wait for the end of a step."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from experiments import cli, processes
from experiments.window import DivergedError


class Interruptions:
    """Inside a `with` block, notes a first SIGINT or SIGTERM instead of ending.

    A second one acts as it would outside. Python handles signals in its main thread
    only: in another thread, nothing changes.

    Of several processes, all stop after the same step when one of them gets a signal.
    JAX watches for SIGTERM then, and a second SIGTERM does nothing. An error of one of
    them is an interruption of all: if it just ended, the others would wait for its part
    of the next sum.
    """

    def __init__(self):
        self._several = jax.process_count() > 1
        self._received, self._before, self._problem = None, {}, None

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

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Inside, errors of one of several processes wait until all can hear of them.

        Its steps up to then are void, and no checkpoint is made of them.
        """
        try:
            yield
        except (cli.UserError, OSError) as error:
            # All processes have the same metrics, and diverge together.
            if not self._several or isinstance(error, DivergedError):
                raise
            self._problem = self._problem or error
            signal.raise_signal(signal.SIGTERM)

    def tell(self) -> None:
        """Ends all processes by what has been held back in any; called in all of them.

        Raises:
          cli.UserError: If something has.
        """
        if self._several:
            processes.together(self._raise)

    def _raise(self):
        if self._problem:
            raise self._problem

    def _note(self, number, _):
        self._received = signal.Signals(number).name
        self.__exit__()
        print(
            f"{self._received}: stopping after this step; once more stops at once",
            file=sys.stderr,
        )
        if self._several:
            signal.raise_signal(signal.SIGTERM)
