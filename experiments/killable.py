"""A training run as a process that is watched, and ended, from outside."""

import contextlib
import itertools
import os
import pathlib
import re
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Self

from experiments import cli, events, progress
from lavae_jax import released, runs

_UNFINISHED = ".orbax-checkpoint-tmp"
_POLL_SECONDS = 0.005


class Life:
    """One start of the command `experiments.train`, until its end.

    A context: the process is killed when it is left. Times are in seconds since the
    start.

    Args:
      command: The command without its workdir.
      workdir: The run's folder. What is printed goes to files of its name beside it.
    """

    def __init__(self, command: list[str], workdir: pathlib.Path):
        workdir.mkdir(parents=True, exist_ok=True)
        self._workdir, self._folder = workdir, runs.checkpoint_folder(workdir)
        self._seen_before = self._unfinished()
        self._stored_before = runs.checkpoint_steps(workdir)
        self._start, self._ended = time.monotonic(), None
        self._lines: list[str] = []
        self._now, self.num_writes = set(), 0
        self._write_start, self.write_seconds = None, []
        self.last_step, self.first_step_seconds = 0, None
        self._reports: list[tuple[int, float]] = []
        self._errors = workdir.with_name(f"{workdir.name}.err")
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [*command, f"--workdir={workdir}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.end(signal.SIGKILL)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """As of `subprocess`: negative for the signal that ended it."""
        return self._process.returncode

    @property
    def seconds(self) -> float:
        """How long it has lived."""
        return (self._ended or time.monotonic()) - self._start

    @property
    def step_seconds(self) -> float:
        """What a step takes, with what is due along the way; compilation aside."""
        pairs = itertools.pairwise(self._reports)
        rates = [(b - a) / (n - k) for (k, a), (n, b) in pairs if n > k]
        return statistics.median(rates) if rates else 0.0

    def wait(self, is_reached: Callable[[], bool]) -> None:
        """Watches until a condition holds, or the process has ended."""
        while self.alive and not is_reached():
            self._look()
            time.sleep(_POLL_SECONDS)

    def wait_for(self, seconds: float) -> None:
        """Watches for some time, or until the process has ended."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= until)

    def freeze_writing(self) -> bool:
        """Halts the process if it is writing a checkpoint; whether it is."""
        if not self._new_unfinished():
            return False
        self._process.send_signal(signal.SIGSTOP)
        if not self._has_stopped():
            return False
        # What it was doing may have ended just before.
        if self._new_unfinished():
            return True
        self._process.send_signal(signal.SIGCONT)
        return False

    def end(self, number: signal.Signals) -> None:
        """Sends a signal, unless it has ended, and waits for the end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._ended = self._ended or time.monotonic()

    def doing(self) -> str:
        """What it was doing at its end, from what it has left behind."""
        if unfinished := self._new_unfinished():
            (name, _), *_ = unfinished
            what = f"while writing the checkpoint of step {name.partition('.')[0]}"
        elif unsealed := self._without_checksums():
            what = f"while writing the checksums of step {unsealed[-1]}"
        elif self.first_step_seconds is None:
            what = "while starting" if not self._lines else "while compiling"
        else:
            what = f"after the report of step {self.last_step}"
        torn = self._torn()
        return f"{what}, {torn} cut off" if torn else what

    def errors(self) -> str:
        """What it wrote to stderr."""
        return self._errors.read_text(errors="replace")

    def check_success(self) -> None:
        """Makes sure that it has ended well.

        Raises:
          cli.UserError: If not, with what it wrote.
        """
        if self.returncode != 0:
            raise cli.UserError(
                f"the run ended with {self.returncode} and\n{self.errors()}"
            )

    def _read(self):
        for line in self._process.stdout:
            self._lines.append(line)
            if line.startswith("first step: "):
                self.first_step_seconds = self.seconds
            if match := re.match(r"step +(\d+)/", line):
                self.last_step = int(match[1])
                self._reports.append((self.last_step, self.seconds))

    def _has_stopped(self):
        """Waits until the process has stopped or ended; whether it has stopped."""
        if self._process.returncode is not None:
            return False
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return False

    def _look(self):
        """Notes the beginnings and ends of checkpoints."""
        now = self._new_unfinished()
        if now and not self._now:
            self.num_writes += 1
            self._write_start = time.monotonic()
        elif self._now and not now:
            self.write_seconds.append(time.monotonic() - self._write_start)
        self._now = now

    def _new_unfinished(self):
        return self._unfinished() - self._seen_before

    def _unfinished(self):
        """Names and inodes of unfinished checkpoints; names come again."""
        if not self._folder.is_dir():
            return set()
        with os.scandir(self._folder) as entries:
            return {
                (entry.name, entry.inode())
                for entry in entries
                if _UNFINISHED in entry.name
            }

    def _without_checksums(self):
        new = set(runs.checkpoint_steps(self._workdir)) - set(self._stored_before)
        return sorted(
            step
            for step in new
            if not (self._folder / str(step) / released.CHECKSUMS).exists()
        )

    def _torn(self):
        """The reports that end in the middle of a row or record."""
        table, torn = progress.table(self._workdir), []
        content = table.read_bytes() if table.exists() else b""
        if content and not content.endswith(b"\n"):
            torn.append(table.name)
        for path in events.files(self._workdir / "tensorboard"):
            try:
                for _ in events.read(path):
                    pass
            except ValueError:
                torn.append("an event file")
        return " and ".join(torn)
