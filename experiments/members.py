"""What each of the models that are trained together has of its own.

That is its workdir, its order of the data, and its reports.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import (
    build,
    checkpoints,
    cli,
    input_pipeline,
    processes,
    run_config,
    workdirs,
)
from experiments.progress import Progress, Silence
from experiments.seeds import Single
from experiments.window import Window
from lavae_jax.training import guard

_NUM_PICTURED = 8


class Eyes(NamedTuple):
    """How models are looked at, the same for all: see `build.Experiment`."""

    look: Callable[..., Any]
    measure: Callable[..., Any]
    warnings: Callable[..., Sequence[str]]
    held_out: input_pipeline.HeldOut


class Member(NamedTuple):
    """A model, without its state."""

    batches: Iterator[np.ndarray]
    store: checkpoints.Checkpoints
    report: Progress | Silence
    window: Window

    def save(self, step: int, state: Any) -> None:
        """Stores a state, unless a step up to it has diverged."""
        rows = self.window.rows()
        processes.on_first(self.report.flush)
        position = input_pipeline.Position(self.batches.get_state(), rows)
        self.store.save(step, state, position._asdict())
        self.report.start_clock(step)

    def evaluate(self, eyes: Eyes, batch_size: int, step: int, state: Any) -> Any:
        """Measures on the held-out scenes, and reports the means."""
        held_out, parts = eyes.held_out, []
        num = len(held_out.images)
        for start in range(0, num, batch_size):
            # The last batch is filled up, so that all have one shape and compilation.
            indices = np.arange(start, start + batch_size) % num
            n = None if held_out.n is None else held_out.n[indices]
            parts.append(eyes.measure(state, held_out.images[indices], n))
        result = jax.tree.map(lambda *x: float(np.concatenate(x)[:num].mean()), *parts)
        self.report.held_out(step, result)
        for text in eyes.warnings(step, result):
            self.report.message(f"warning: {text}")
        self.report.start_clock(step)
        return result

    def draw(self, eyes: Eyes, step: int, state: Any) -> None:
        """Keeps a picture of what it sees, of scenes that show something first."""
        images = eyes.held_out.images
        black = ~images.any(axis=(1, 2, 3))
        images = images[np.argsort(black, kind="stable")[:_NUM_PICTURED]]
        self.report.picture(step, eyes.look(state, images).figure(images))
        self.report.start_clock(step)


@contextlib.contextmanager
def opened(single: Single) -> Iterator[checkpoints.Checkpoints]:
    """The checkpoints of a run whose workdir is its own meanwhile."""
    workdir, config = single.workdir, single.config
    with workdirs.held(workdir):
        processes.on_first(lambda: workdirs.check_nothing_is_lost(workdir))
        processes.on_first(lambda: run_config.claim(workdir, config))
        with contextlib.closing(checkpoints.Checkpoints(workdir)) as store:
            yield store


@contextlib.contextmanager
def started(
    experiment: build.Experiment,
    single: Single,
    store: checkpoints.Checkpoints,
    restored: checkpoints.Restored | None,
    images: Sequence[np.ndarray],
) -> Iterator[tuple[Member, Any]]:
    """A model that reads and reports, and its state: fresh, or as it was stored."""
    done = restored.step if restored else 0
    batches, rows = _batches(single.config, images, restored)
    with contextlib.closing(batches):
        # Last, as it takes back what was reported after the checkpoint.
        report = processes.on_first(lambda: _report(experiment, single, done))
        with contextlib.closing(report or Silence()) as report:
            if restored:
                state = restored.state
            else:
                state = experiment.init(jax.random.key(single.config.seed))
            window = Window(store, guard.names(state), rows, single.label)
            yield Member(batches, store, report, window), state


def _report(experiment, single, done):
    """What reports on the model, in the first process alone."""
    config = single.config

    def tell(line):
        print(f"{single.label}{line}", flush=True)

    with cli.user_errors(OSError):
        return Progress(
            single.workdir,
            config.num_steps,
            config.batch_size,
            done,
            experiment.shown,
            out=tell,
        )


def _batches(config, images, restored):
    """The batches from where the run is, and the metrics it has not reported yet."""
    batches = input_pipeline.batches(
        images,
        config.batch_size,
        config.seed,
        jax.process_index(),
        jax.process_count(),
    )
    if restored is None:
        return batches, []
    position = input_pipeline.position(restored.data_state)
    batches.set_state(position.batches)
    return batches, position.rows
