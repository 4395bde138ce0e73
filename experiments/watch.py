"""Processes that end at once when another one vanishes.

JAX waits for about 100 s, and then ends them with a dump of its own stack. Here every
process keeps a connection to the first, which the system closes when either is gone,
killed or not. Where no connection can be made, JAX's way remains; it may also be the
quicker one where the first process vanishes.
"""

import atexit
import contextlib
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax

_SECONDS = 10.0  # for all to connect
_TOKEN_BYTES = 16
_INDEX_BYTES = 4


def start(host: str | None, from_first: Callable[[Callable[[], Any]], Any]) -> None:
    """Begins to watch; called in every process, which all do so until they end.

    Args:
      host: A name of the host of the first process, where it is known.
      from_first: See `processes.from_first`.
    """
    ending, connections = threading.Event(), {}

    def end():
        if not hasattr(sys, "last_value"):
            ending.set()
            return
        # After an error that nobody foresaw, the others are not to wait.
        for connection in connections.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    # Comes before JAX's own, in which all wait for each other.
    atexit.register(end)
    server, offer = _offered(host) if not jax.process_index() else (None, None)
    hosts, port, token = from_first(lambda: offer)
    if server is not None:
        with server:
            connections.update(_accepted(server, token))
    elif (connection := _connected(hosts, port, token)) is not None:
        connections[0] = connection
    for index, connection in connections.items():
        others = [one for one in connections.values() if one is not connection]
        _watch(connection, index, others, ending)


def _offered(host):
    """A socket that others may connect to, and what they need to know of it."""
    server = socket.create_server(("", 0))
    server.settimeout(_SECONDS)
    name = socket.gethostname()
    hosts = [name] if host is None else [host, name]
    with contextlib.suppress(OSError):
        # Others may not know the name.
        hosts.append(socket.gethostbyname(name))
    return server, (hosts, server.getsockname()[1], secrets.token_bytes(_TOKEN_BYTES))


def _accepted(server, token):
    """The connections that came in time, by the index of the process."""
    found = {}
    with contextlib.suppress(OSError):
        while len(found) < jax.process_count() - 1:
            connection, _ = server.accept()
            connection.settimeout(_SECONDS)
            said = connection.recv(_TOKEN_BYTES + _INDEX_BYTES, socket.MSG_WAITALL)
            if secrets.compare_digest(said[:_TOKEN_BYTES], token):
                found[int.from_bytes(said[_TOKEN_BYTES:])] = connection
            else:
                connection.close()
    return found


def _connected(hosts, port, token):
    """A connection to the first process, None where there is no way to it."""
    for host in hosts:
        with contextlib.suppress(OSError):
            connection = socket.create_connection((host, port), _SECONDS / len(hosts))
            connection.sendall(token + jax.process_index().to_bytes(_INDEX_BYTES))
            return connection
    return None


def _watch(
    connection: socket.socket,
    index: int,
    others: Sequence[socket.socket],
    ending: threading.Event,
) -> None:
    """Waits in a thread for the end of a connection to a process; then tells others."""
    connection.settimeout(None)

    def wait():
        try:
            said = connection.recv(_INDEX_BYTES, socket.MSG_WAITALL)
        except OSError:
            return  # The connection has failed, not the process.
        if ending.is_set():
            return
        lost = int.from_bytes(said) if said else index
        for other in others:
            with contextlib.suppress(OSError):
                other.sendall(lost.to_bytes(_INDEX_BYTES))
        if not hasattr(sys, "last_value"):
            print(
                f"error: process {lost} is gone: it was killed, has failed, or its"
                " machine was taken away. Once all can be started again, the same"
                " commands go on from the last checkpoint.",
                file=sys.stderr,
                flush=True,
            )
        # The main thread waits for sums that never come. As after a kill, all that is
        # stored is whole.
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
