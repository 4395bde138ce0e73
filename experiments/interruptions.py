"""Interruptions that wait for the end of a step."""

import signal
import sys
import threading


class Interruptions:
    """Inside a `with` block, notes a first SIGINT or SIGTERM instead of ending.

    A second one acts as it would outside. Python handles signals in its main thread
    only: in another thread, nothing changes.

    Attributes:
      received: The name of the signal, None before.
    """

    def __init__(self):
        self.received: str | None = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.received = signal.Signals(number).name
        self.__exit__()
        print(
            f"{self.received}: stopping after this step; once more stops at once",
            file=sys.stderr,
        )
