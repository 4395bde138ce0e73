"""The training loop: one entry point for the command line, notebooks and tests."""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build, checkpoints, cli, input_pipeline, processes
from experiments.devices import Devices
from experiments.interruptions import Interruptions
from experiments.progress import Progress, Silence
from experiments.window import Window

_NUM_PICTURED = 8


class Result(NamedTuple):
    """Where a run ended."""

    step: int
    held_out: Any
    """Means over the held-out scenes of what the experiment measures there; None if
    the run had already ended before."""


class _Run(NamedTuple):
    """What stays the same throughout a run."""

    config: ConfigDict
    train_step: Callable[..., Any]
    look: Callable[..., Any]
    measure: Callable[..., Any]
    devices: Devices
    data: input_pipeline.Data
    batches: Iterator[np.ndarray]
    store: checkpoints.Checkpoints
    report: Progress | Silence


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Trains a model, or goes on where a run in this workdir was.

    The workdir gets `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/` and
    `pictures/`. On an interruption (SIGINT, SIGTERM) the state is stored before this
    ends, and the same call goes on from there; the steps of an interrupted run are
    bitwise those of an unbroken one.

    In several processes (`processes.join`), all of them call this; the first alone
    reads and writes the workdir.

    Args:
      config: What `get_config` of a file in `experiments/configs` gives.
      workdir: The run's folder; made when it does not exist.
      devices: What to run on, by default every device of every process.

    Returns:
      The last step, and what was measured there.

    Raises:
      cli.UserError: If the config, the data or the workdir can't be used, before any
        long work; or if the run diverges.
      KeyboardInterrupt: After an interruption.
    """
    used = Devices(devices)
    _check(config, len(used.devices))
    with cli.user_errors(ValueError):
        experiment = build.build(config, used.axis_name)
    return run(experiment, config, workdir, used)


def run(
    experiment: build.Experiment,
    config: ConfigDict,
    workdir: str | pathlib.Path,
    devices: Devices,
) -> Result:
    """Trains what has been built; see `train_and_evaluate`.

    Args:
      experiment: The model and how it is trained, shown and measured.
      config: The run's config, of which everything but the model's part is used here.
      workdir: The run's folder.
      devices: Where the steps run; they average over their `axis_name`.

    Returns:
      The last step, and what was measured there.
    """
    processes.on_first(lambda: checkpoints.claim(workdir, config))
    store = checkpoints.Checkpoints(workdir)
    done = store.latest_step() or 0
    if done >= config.num_steps:
        print(
            f"{workdir} has made its {done} steps; --config.num_steps=N goes on to N."
        )
        return Result(done, None)
    data = _load(config)
    batches = input_pipeline.batches(
        data.train,
        config.batch_size,
        config.seed,
        jax.process_index(),
        jax.process_count(),
    )
    start = functools.partial(experiment.init, jax.random.key(config.seed))
    state = _restored(store, batches, jax.eval_shape(start)) or start()
    report = _report(config, workdir, done, experiment.shown)
    report.message(_greeting(state, devices, data, workdir, done))
    parts = _Run(
        config=config,
        train_step=_compiled(experiment, devices),
        look=jax.jit(experiment.look),
        measure=jax.jit(experiment.measure),
        devices=devices,
        data=data,
        batches=batches,
        store=store,
        report=report,
    )
    try:
        return _train(parts, devices.place(state), done)
    finally:
        report.close()
        store.close()
        batches.close()


def _load(config):
    """The run's data, which the first process may have to generate."""

    def load():
        return input_pipeline.load_data(config)

    data = processes.on_first(load)
    return processes.together(lambda: data or load())


def _report(config, workdir, done, shown):
    """What reports on the run, in the first process alone."""

    def start():
        return Progress(workdir, config.num_steps, config.batch_size, done, shown)

    return processes.on_first(start) or Silence()


def _restored(store, batches, template):
    """The latest state, with the batches moved on to it; None without one."""
    restored = store.restore(template)
    if restored is None:
        return None
    batches.set_state(restored.data_state)
    return restored.state


def _compiled(experiment, devices):
    """The compiled step for every number of a step; few of them differ."""
    return lambda step: devices.compile(experiment.train_step_at(step))


def _train(run, state, done):
    """Makes the steps after `done`, with everything that is due along the way."""
    config, report = run.config, run.report
    window, held_out = Window(run.store), None
    started = time.monotonic()
    with Interruptions() as interruptions:
        for step in range(done + 1, config.num_steps + 1):
            images = run.devices.share(next(run.batches))
            state, metrics = run.train_step(step)(state, images)
            window.add(step, metrics)
            if step == done + 1:
                window.fetch()
                report.message(f"first step: {time.monotonic() - started:.1f} s")
                report.start_clock(step)
            end = step == config.num_steps
            if end or step % config.log_every == 0:
                report.train(step, window.mean())
            if interruption := interruptions.due(step):
                _save(run, window, step, state)
                raise KeyboardInterrupt(
                    f"{interruption}: stopped after step {step}, which is stored. The"
                    f" same command goes on from there."
                )
            if end or step % config.checkpoint_every == 0:
                _save(run, window, step, state)
            if end or step % config.eval_every == 0:
                held_out = _evaluate(run, step, state)
            if processes.is_first() and (end or step % config.picture_every == 0):
                _draw(run, step, state)
    return Result(config.num_steps, held_out)


def _save(run, window, step, state):
    """Stores a state after making sure that it is a good one."""
    window.fetch()
    state = run.devices.one(state)
    window.check(step, state)
    run.store.save(step, state, run.batches.get_state())
    run.report.start_clock(step)


def _evaluate(run, step, state):
    """Measures on the held-out scenes."""
    held_out, size = run.data.held_out, run.config.batch_size
    num, parts = len(held_out.n), []
    for start in range(0, num, size):
        # The last batch is filled up, so that all have one shape and compilation.
        indices = np.arange(start, start + size) % num
        images, n = held_out.images[indices], held_out.n[indices]
        parts.append(run.measure(run.devices.one(state), images, n))
    result = jax.tree.map(lambda *x: float(np.concatenate(x)[:num].mean()), *parts)
    run.report.held_out(step, result)
    run.report.start_clock(step)
    return result


def _draw(run, step, state):
    """Keeps a picture of what the model sees, of scenes that show something first."""
    held_out = run.data.held_out
    shown = np.argsort(held_out.n == 0, kind="stable")[:_NUM_PICTURED]
    images = held_out.images[shown]
    view = run.look(run.devices.one(state), images)
    run.report.picture(step, view.figure(images))
    run.report.start_clock(step)


def _check(config, num_devices):
    """Refuses counts that mean nothing, before anything is computed."""
    names = ("num_steps", "batch_size", "log_every", "eval_every", "picture_every")
    for name in (*names, "checkpoint_every"):
        if config[name] < 1:
            raise cli.UserError(f"{name} must be at least 1: got {config[name]}.")
    if config.batch_size % num_devices:
        raise cli.UserError(
            f"batch_size must be a multiple of the {num_devices} devices: got"
            f" {config.batch_size}."
        )
    input_pipeline.check_shape(config)


def _greeting(state, devices, data, workdir, done):
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    goes_on = f", going on from step {done}" if done else ""
    return (
        f"{workdir}{goes_on}: {parameters} parameters, {len(data.train)} scenes to"
        f" train on, {len(data.held_out.n)} held out, {devices}"
    )
