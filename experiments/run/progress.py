"""The reports of a run: lines in the terminal, TensorBoard, metrics.jsonl, pictures.

The metrics of the steps since the last report wait in a `Window`.
"""

import datetime
import json
import math
import pathlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorboardX.summary
from matplotlib.figure import Figure
from PIL import Image
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments import cli, files
from experiments.run.checkpoints import Checkpoints
from lavae_jax import plotting

_MAX_AHEAD = 4


class Progress:
    """Reports on one run, in its workdir.

    `metrics.jsonl` has one JSON object per line: `step`, `part` (train or held_out) and
    the metrics by name. A run that continues from a checkpoint removes what was
    reported after it, so that no step is there twice.

    The methods raise OSError if the file system refuses.

    `batch_size` counts the images of all processes, and `first_step` is the one that
    the run continues from. `shown` names the training metrics that go to the terminal;
    None shows all. `out` takes the lines, and `clock` gives the time in seconds.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        num_steps: int,
        batch_size: int,
        first_step: int = 0,
        shown: Collection[str] | None = None,
        out: Callable[[str], Any] = lambda line: print(line, flush=True),
        clock: Callable[[], float] = time.monotonic,
    ):
        self._workdir = pathlib.Path(workdir)
        self._num_steps, self._batch_size = num_steps, batch_size
        self._shown, self._out, self._clock = shown, out, clock
        self._table = self._workdir / "metrics.jsonl"
        if self._table.exists():
            lines = self._table.read_text(errors="replace").splitlines()
            kept = [line + "\n" for line in lines if _step_of(line) <= first_step]
            files.write(self._table, "".join(kept))
        self._tensorboard = _TensorBoard(self._workdir / "tensorboard", first_step)
        self.start_clock(first_step)

    def start_clock(self, step: int) -> None:
        """Measures the speed from here on, without the time of other work before."""
        self._clock_step, self._clock_start = step, self._clock()

    def train(self, step: int, metrics: NamedTuple) -> None:
        """Reports means since the last report, except those that are None."""
        seconds = max(self._clock() - self._clock_start, 1e-9)
        rate = (step - self._clock_step) / seconds
        speed = {
            "steps_per_second": rate,
            "images_per_second": rate * self._batch_size,
        }
        self.start_clock(step)
        left = (self._num_steps - step) / rate if rate else 0.0
        self._say(
            step,
            f"{rate:.4g} steps/s",
            f"{rate * self._batch_size:.4g} images/s",
            f"ETA {datetime.timedelta(seconds=round(left))} at this speed",
            *_named(metrics, self._shown),
        )
        self._store(step, "train", metrics._asdict() | speed)

    def held_out(self, step: int, metrics: NamedTuple) -> None:
        """Reports on scenes that are not trained on."""
        self._say(step, "held-out scenes", *_named(metrics))
        self._store(step, "held_out", metrics._asdict())

    def picture(self, step: int, figure: Figure) -> None:
        """Keeps a picture in the folder `pictures`."""
        path = self._workdir / "pictures" / f"step_{step:08d}.png"
        plotting.save(figure, path)
        files.sync(path)
        files.sync(path.parent)
        self._tensorboard.picture(step, "reconstructions", path)
        self._say(step, f"picture {path}")

    def message(self, text: str) -> None:
        """Prints a line that is in none of the tables."""
        self._out(text)

    def flush(self) -> None:
        """Makes sure that what was reported is on the disk."""
        self._tensorboard.flush()
        if self._table.exists():
            files.sync(self._table)
            files.sync(self._workdir)

    def close(self) -> None:
        """Writes what is still in memory."""
        self._tensorboard.close()

    def _say(self, step, *parts):
        width = len(str(self._num_steps))
        self._out("  ".join([f"step {step:{width}d}/{self._num_steps}", *parts]))

    def _store(self, step, part, values):
        values = {k: float(v) for k, v in values.items() if v is not None}
        with self._table.open("a") as file:
            file.write(json.dumps({"step": step, "part": part} | values) + "\n")
        self._tensorboard.scalars(step, part, values)


class _TensorBoard:
    """Writes the events of one start of a run, to a file of its own.

    It does what tensorboardX's `SummaryWriter` does with its `purge_step`: TensorBoard
    hides what earlier starts have written of steps after `first_step`. But it has no
    thread: that of `SummaryWriter` ends on a full disk, and the run then waits for it
    for ever. Here a full disk is an OSError.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        # Names of files begin with the second, and a run may start twice in a second.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        self._is_closed = False
        self._write(first_step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step, part, values):
        for name, value in values.items():
            summary = tensorboardX.summary.scalar(f"{part}/{name}", value)
            self._write(step, summary=summary)

    def picture(self, step, tag, path):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        summary = tensorboardX.summary.image(tag, pixels, dataformats="HWC")
        self._write(step, summary=summary)

    def flush(self):
        self._writer.flush()

    def close(self):
        if not self._is_closed:
            self._is_closed = True
            self._writer.close()

    def _write(self, step, **content):
        self._writer.write_event(Event(step=step, wall_time=time.time(), **content))


def _named(metrics, shown=None):
    return [
        f"{name} {value:.4g}"
        for name, value in metrics._asdict().items()
        if value is not None and (shown is None or name in shown)
    ]


def _step_of(line):
    """Returns the step of a row; infinity for a row that a kill has cut off."""
    try:
        step = json.loads(line)["step"]
        return step if isinstance(step, int) else math.inf
    except (ValueError, TypeError, KeyError):
        return math.inf


class DivergedError(cli.UserError):
    """A number of the run is not finite; `step` is where it was seen first.

    `what` says which number, and `kept` what is left of the run.
    """

    def __init__(self, step: int, what: str, kept: str):
        super().__init__(
            f"step {step}: {what}: the run has diverged. {kept} Start again in another"
            " --workdir with smaller learning rates (--config.optimizer...)."
        )
        self.step = step


class Window:
    """The metrics of the steps since the last report, which must be finite.

    They stay on the device until they are needed, so that no step waits for them. But
    the host runs only `_MAX_AHEAD` steps ahead of the device: an interruption has to
    wait for these steps, and a step may take seconds.
    `optax.apply_if_finite` would skip the gradients of a bad step silently. Here the
    run ends: each method may raise a `DivergedError`, which says what was wrong and
    names the last good checkpoint. A continued run starts with the rows that were
    stored.
    """

    def __init__(self, store: Checkpoints, rows: Sequence[dict[str, float]] = ()):
        self._store, self._waiting, self._rows = store, [], list(rows)
        self._kind = None

    def add(self, step: int, metrics: NamedTuple) -> None:
        """Takes the metrics of a step: scalars, None for what it did not compute."""
        self._kind = type(metrics)
        self._waiting.append((step, metrics))
        if len(self._waiting) > _MAX_AHEAD:
            jax.block_until_ready(self._waiting[-1 - _MAX_AHEAD])

    def rows(self) -> list[dict[str, float]]:
        """Waits for the steps made so far, and returns their metrics for JSON."""
        waiting, self._waiting = jax.device_get(self._waiting), []
        for step, metrics in waiting:
            row = {k: float(v) for k, v in metrics._asdict().items() if v is not None}
            wrong = [f"{k} is {v}" for k, v in row.items() if not np.isfinite(v)]
            if wrong:
                raise DivergedError(step, ", ".join(wrong), self._store.kept())
            self._rows.append(row)
        return list(self._rows)

    def mean(self) -> NamedTuple:
        """Averages every metric over the steps since the last call that have it."""
        rows, self._rows = self.rows(), []
        return self._kind(**{name: _mean(name, rows) for name in self._kind._fields})

    def check_state(self, step: int, state: Any) -> None:
        """Makes sure that a state on one device is finite, before it is stored."""
        for path, leaf in jax.tree.leaves_with_path(state):
            is_real = jnp.issubdtype(leaf.dtype, jnp.inexact)
            if is_real and not np.isfinite(leaf).all():
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                raise DivergedError(step, f"{name} is not finite", self._store.kept())


def _mean(name, rows):
    measured = [row[name] for row in rows if name in row]
    return float(np.mean(measured)) if measured else None
