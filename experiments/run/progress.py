"""What a run reports: lines in the terminal, TensorBoard, metrics.jsonl, pictures."""

import datetime
import json
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


class Speed(NamedTuple):
    """How fast the last steps were, by the clock on the wall."""

    steps_per_second: float
    images_per_second: float


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
        first_step: The step the run goes on from, 0 at the start.
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
        self._table = table(workdir)
        if self._table.exists():
            kept = [row for row in rows(workdir) if row["step"] <= first_step]
            files.write(self._table, "".join(map(_line, kept)))
        self._tensorboard = _TensorBoard(self._workdir / "tensorboard", first_step)
        self.start_clock(first_step)

    def start_clock(self, step: int) -> None:
        """Measures the speed from here on: after compilation, or a long look at data.

        Args:
            step: Number of steps made.
        """
        self._clock_step, self._clock_start = step, self._clock()

    def train(self, step: int, metrics: NamedTuple) -> Speed:
        """Reports on training.

        Args:
            step: Number of steps made.
            metrics: Floats by name, such as the mean ELBO terms since the last report;
                None for what was not computed, which is left out.

        Returns:
            The speed since the last report.
        """
        seconds = max(self._clock() - self._clock_start, 1e-9)
        rate = (step - self._clock_step) / seconds
        speed = Speed(rate, rate * self._batch_size)
        self.start_clock(step)
        left = (self._num_steps - step) / rate if rate else 0.0
        self._say(
            step,
            f"{speed.steps_per_second:.4g} steps/s",
            f"{speed.images_per_second:.4g} images/s",
            f"ETA {datetime.timedelta(seconds=round(left))}",
            *_named(metrics, self._shown),
        )
        self._store(step, "train", metrics._asdict() | speed._asdict())
        return speed

    def held_out(self, step: int, metrics: NamedTuple) -> None:
        """Reports on scenes that are not trained on.

        Args:
            step: Number of steps made.
            metrics: Floats by name.
        """
        self._say(step, "held-out scenes", *_named(metrics))
        self._store(step, "held_out", metrics._asdict())

    def picture(self, step: int, figure: Figure) -> pathlib.Path:
        """Keeps a picture.

        Args:
            step: Number of steps made.
            figure: The picture.

        Returns:
            Where it is.
        """
        path = self._workdir / "pictures" / f"step_{step:08d}.png"
        plotting.save(figure, path)
        files.sync(path)
        files.sync(path.parent)
        self._tensorboard.picture(step, "reconstructions", path)
        self._say(step, f"picture {path}")
        return path

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
            file.write(_line({"step": step, "part": part} | values))
        self._tensorboard.scalars(step, part, values)


class _TensorBoard:
    """Writes the events of one start of a run, to a file of its own.

    It does what tensorboardX's `SummaryWriter` does with its `purge_step`, without that
    writer's thread: on a full disk the thread ends, and the run waits for it for ever.
    Here a full disk is an OSError.

    Args:
        folder: Where the files are; made when it does not exist.
        first_step: The step the run goes on from. TensorBoard hides what earlier starts
            have written of later steps.
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


def table(workdir: str | pathlib.Path) -> pathlib.Path:
    """Where the metrics of a run are."""
    return pathlib.Path(workdir) / "metrics.jsonl"


def rows(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics; what a kill cut off in the middle is no row."""
    if not table(workdir).exists():
        return []
    lines = table(workdir).read_text(errors="replace").splitlines()
    return [row for row in map(_row, lines) if row is not None]


def _row(line):
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _line(row):
    return json.dumps(row) + "\n"
