"""What a run reports: lines in the terminal, TensorBoard, metrics.jsonl, pictures."""

import datetime
import json
import math
import pathlib
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import tensorboardX.summary
from matplotlib.figure import Figure
from PIL import Image
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments.run import files
from lavae_jax import plotting


class Progress:
    """Reports on one run, in its workdir.

    `metrics.jsonl` has one JSON object per line: `step`, `part` (train or held_out) and
    the metrics by name. A run that goes on from a checkpoint takes back what was
    reported after it, so that no step is there twice.

    The methods raise OSError if the file system refuses.

    Args:
        workdir: The run's folder, which exists.
        num_steps: Where the run ends.
        batch_size: Images per step, of all processes together.
        first_step: The step the run goes on from.
        shown: Names of the training metrics that go to the terminal; None shows all.
        out: Takes the lines for the terminal.
        clock: Gives the time in seconds.
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
        """Measures the speed from here on, without what took long before."""
        self._clock_step, self._clock_start = step, self._clock()

    def train(self, step: int, metrics: NamedTuple) -> None:
        """Reports means since the last report, but for those that are None."""
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
            f"ETA {datetime.timedelta(seconds=round(left))}",
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
        """Says a line that has no place in the tables."""
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
    thread: that one ends on a full disk, and the run waits for it for ever. Here a full
    disk is an OSError.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        # The names of files begin with a second, in which there may be another start.
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
    """The step of a row; infinity for what a kill cut off in the middle."""
    try:
        row = json.loads(line)
    except ValueError:
        return math.inf
    is_row = isinstance(row, dict) and isinstance(row.get("step"), int)
    return row["step"] if is_row else math.inf
