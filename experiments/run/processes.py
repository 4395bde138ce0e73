"""Connects several processes that train one model, and makes them act as one.

All run the same program, each on its own devices and its own part of every batch. What
has to happen once, such as writing a file, happens in the first process. When one is
told to stop, all stop after the same step.
"""

import collections
import inspect
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments import cli

_T = TypeVar("_T")
_MESSAGE_BYTES = 4096
# After one process has ended by an unforeseen error, JAX ends the others in this time.
_SHUTDOWN_SECONDS = 60
# JAX raises this where it finds no cluster. Its other errors mean that a cluster is
# misconfigured, where training alone would be a mistake.
_NO_CLUSTER = "coordinator_address should be defined."


def join(
    automatic: bool | None = None,
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects to the other processes, before anything else is done with JAX.

    With `automatic`, a cluster such as Cloud TPU, Slurm or Kubernetes names them; None
    does so only where JAX finds a cluster. The other three arguments name the processes
    elsewhere.
    """
    named = (coordinator_address, num_processes, process_id)
    _check_names(*named)
    if automatic is False and coordinator_address is None:
        return
    try:
        jax.distributed.initialize(*named, **_shutdown_timeout())
    except (ValueError, RuntimeError, OSError) as error:
        if automatic is None and str(error) == _NO_CLUSTER:
            return
        raise cli.UserError(
            f"the other processes can't be found: {error}\nName them by"
            " --coordinator_address=HOST:PORT, --num_processes and --process_id; with"
            " --nodistributed this process trains alone."
        ) from error
    shares = collections.Counter(device.process_index for device in jax.devices())
    if len(shares) < jax.process_count() or len(set(shares.values())) > 1:
        raise cli.UserError(
            "every process must have the same number of devices: process"
            f" {jax.process_index()} of {jax.process_count()} has"
            f" {jax.local_device_count()} of {jax.device_count()}."
        )
    _connect_devices()


def _check_names(coordinator_address, num_processes, process_id):
    """Refuses names for which JAX would fail unclearly, or wait in vain."""
    named = (coordinator_address, num_processes, process_id)
    if named == (None, None, None):
        return
    if None in named:
        raise cli.UserError(
            "--coordinator_address, --num_processes and --process_id name the processes"
            " together: give all three or none."
        )
    if not re.fullmatch(r".+:\d+", coordinator_address):
        raise cli.UserError(
            f"--coordinator_address takes HOST:PORT: got {coordinator_address!r}."
        )
    if not 0 <= process_id < num_processes:
        raise cli.UserError(
            f"--process_id must be from 0 to {num_processes - 1}, for"
            f" --num_processes={num_processes}: got {process_id}."
        )


def _shutdown_timeout():
    """Returns the argument that newer versions of JAX (from 0.8.1 on) take."""
    name = "shutdown_timeout_seconds"
    known = inspect.signature(jax.distributed.initialize).parameters
    return {name: _SHUTDOWN_SECONDS} if name in known else {}


def _connect_devices():
    """Connects all devices while all processes are at the same point.

    CPUs wait 30 s for each other, and later a step may take longer to compile in
    one process than in another.
    """
    add_up = jax.pmap(lambda x: jax.lax.psum(x, "all"), "all")
    add_up(np.ones(jax.local_device_count(), np.float32)).block_until_ready()
    together(lambda: None)


def is_first() -> bool:
    """Tells whether this is the process that writes files."""
    return jax.process_index() == 0


def together(work: Callable[[], _T]) -> _T:
    """Calls `work` in every process; an error of one is an error of all.

    Otherwise the others would wait for the one that has ended. `work` uses no other
    process. If it raises a `cli.UserError` or an OSError, all raise a `cli.UserError`.
    """
    if jax.process_count() == 1:
        return work()
    result, problem = None, b""
    try:
        result = work()
    except (cli.UserError, OSError) as error:
        problem = (str(error) or repr(error)).encode()[:_MESSAGE_BYTES]
    padded = np.frombuffer(problem.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)
    for index, row in enumerate(multihost_utils.process_allgather(padded)):
        message = row.tobytes().rstrip(b"\0").decode(errors="replace")
        if message:
            raise cli.UserError(f"process {index}: {message}")
    return result


def on_first(work: Callable[[], _T]) -> _T | None:
    """Calls `work` in the first process, and returns None in the others.

    `work` uses no other process. If it raises a `cli.UserError`, every process does.
    """
    return together(lambda: work() if is_first() else None)


def broadcast_json(value: Any) -> Any:
    """Returns the first process's value in every process, as JSON gives it back."""
    return json.loads(_broadcast_bytes(json.dumps(value).encode()))


def broadcast_arrays(
    arrays: Sequence[np.ndarray], like: Sequence[Any]
) -> list[np.ndarray]:
    """Returns the first process's arrays in every process, the same in every bit.

    All processes know their shapes and dtypes, `like`.
    """
    if jax.process_count() == 1:
        return list(arrays)
    # JAX broadcasts by a sum, which loses the sign of a zero: bytes lose nothing.
    content = b"".join(array.tobytes() for array in arrays) if is_first() else b""
    content, received, start = _broadcast_bytes(content), [], 0
    for expected in like:
        dtype, size = np.dtype(expected.dtype), int(np.prod(expected.shape))
        array = np.frombuffer(content, dtype, size, start)
        received.append(array.reshape(expected.shape))
        start += array.nbytes
    return received


def _broadcast_bytes(content):
    """Returns what the first process passes in, in every process."""
    if jax.process_count() == 1:
        return content
    payload = np.frombuffer(content, np.uint8)
    size = multihost_utils.broadcast_one_to_all(np.int32(payload.size))
    if not is_first():
        payload = np.zeros(size, np.uint8)
    return multihost_utils.broadcast_one_to_all(payload).tobytes()


def check_same(value: Any, problem: str) -> None:
    """Raises a `cli.UserError` in all processes if one has another value, for JSON."""
    first = broadcast_json(value)

    def check():
        # The values are compared as JSON, which makes lists of tuples.
        if json.dumps(value) != json.dumps(first):
            raise cli.UserError(problem)

    together(check)


class Interruptions:
    """Inside a `with` block, notes a first SIGINT or SIGTERM instead of ending.

    Where JAX has joined processes, its preemption service notes SIGTERM, and lets all
    of them stop after the same step. The service does not run in a single process, and
    does not note Ctrl-C: Python's handlers note these, and pass Ctrl-C on to the
    service as SIGTERM. A second signal acts as it would outside. Python handles signals
    in its main thread only: in another thread, nothing changes.
    """

    def __init__(self):
        self._has_service = jax.distributed.is_initialized()
        self._received, self._handlers_before = None, {}

    def __enter__(self):
        noted = (
            (signal.SIGINT,) if self._has_service else (signal.SIGINT, signal.SIGTERM)
        )
        if threading.current_thread() is threading.main_thread():
            for number in noted:
                self._handlers_before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def received(self, step: int) -> str | None:
        """Returns the name of the signal to stop for after this step, None to go on.

        It has to be called after every step, which joined processes then agree on.
        """
        if not self._has_service:
            return self._received
        if multihost_utils.reached_preemption_sync_point(step):
            return self._received or signal.SIGTERM.name
        return None

    def stop(self, signal_name: str, step: int) -> NoReturn:
        """Ends a run that has stored its state after this step."""
        raise KeyboardInterrupt(
            f"{signal_name}: stopped after step {step}, which is stored. The same"
            " command continues from there."
        )

    def _note(self, number, _):
        self._received = signal.Signals(number).name
        self.__exit__()
        print(
            f"{self._received}: stopping after this step; once more stops at once",
            file=sys.stderr,
        )
        if self._has_service:
            signal.raise_signal(signal.SIGTERM)
