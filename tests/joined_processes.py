"""These helpers start several Python processes on one machine, for JAX to join."""

import contextlib
import os
import socket
import subprocess
import sys

from tests import compilation
from tests.commands import ROOT


@contextlib.contextmanager
def started(arguments_of, folder, num=2, **environment):
    """Starts `num` processes of two devices each, and kills those left at the end.

    `arguments_of` returns the arguments for an address and a process's index. What the
    processes print goes to `INDEX.out` and `INDEX.err` in the folder.
    """
    flags = ("--xla_force_host_platform_device_count=2", *compilation.FAST)
    environment = {**os.environ, "XLA_FLAGS": " ".join(flags), **environment}
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        address, processes = f"localhost:{unused.getsockname()[1]}", []
    with contextlib.ExitStack() as files:
        try:
            for index in range(num):
                out, err = (
                    files.enter_context((folder / f"{index}.{name}").open("w"))
                    for name in ("out", "err")
                )
                command = [sys.executable, *map(str, arguments_of(address, index))]
                streams = {"stdout": out, "stderr": err}
                processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=environment, **streams)
                )
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.wait()


def finished(arguments_of, folder, num=2):
    """Waits until all processes of `started` succeed; returns what each has printed."""
    with started(arguments_of, folder, num) as all_of_them:
        codes = [process.wait(timeout=600) for process in all_of_them]
    errors = [(folder / f"{index}.err").read_text() for index in range(num)]
    assert not any(codes), errors
    return [(folder / f"{index}.out").read_text() for index in range(num)]
