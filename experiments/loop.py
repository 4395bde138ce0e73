"""The training loop: one entry point for the command line, notebooks and tests."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import (
    build,
    checkpoints,
    cli,
    input_pipeline,
    processes,
    workdirs,
)
from experiments.devices import Devices
from experiments.interruptions import Interruptions
from experiments.progress import Progress, Silence
from experiments.window import Window
from lavae_jax.training import guard

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
    warnings: Callable[..., Sequence[str]]
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
        long work.
      window.DivergedError: If the run diverges; it is a `cli.UserError` too.
      KeyboardInterrupt: After an interruption.
    """
    used = Devices(devices)
    _check(config, len(used.devices))
    prepared = _prepared(config)
    with cli.user_errors(ValueError):
        experiment = build.build(prepared.config, used.axis_name)
    return run(experiment, prepared.config, workdir, used, prepared.data)


def run(
    experiment: build.Experiment,
    config: ConfigDict,
    workdir: str | pathlib.Path,
    devices: Devices,
    data: input_pipeline.Data | None = None,
) -> Result:
    """Trains what has been built; see `train_and_evaluate`.

    Args:
      experiment: The model and how it is trained, shown and measured.
      config: The run's config, of which everything but the model's part is used here.
      workdir: The run's folder.
      devices: Where the steps run; they average over their `axis_name`.
      data: What the run reads; by default the config's, which is opened first.

    Returns:
      The last step, and what was measured there.
    """
    with workdirs.held(workdir):
        processes.on_first(lambda: workdirs.check_nothing_is_lost(workdir))
        processes.on_first(lambda: checkpoints.claim(workdir, config))
        with contextlib.closing(checkpoints.Checkpoints(workdir)) as store:
            try:
                return _run(experiment, config, workdir, devices, data, store)
            except OSError as error:
                raise cli.UserError(
                    f"the system refuses to read or write a file: {error}.\n"
                    f"{store.kept()} Once this is put right, the same command goes on"
                    " from there."
                ) from error


def _run(experiment, config, workdir, devices, data, store):
    """The run, once the workdir is its own."""
    start = functools.partial(experiment.init, jax.random.key(config.seed))
    restored = store.restore(jax.eval_shape(start))
    done = restored.step if restored else 0
    if done >= config.num_steps:
        print(
            f"{workdir} has made its {done} steps; --config.num_steps=N goes on to N."
        )
        return Result(done, None)
    data = data or _load(config)
    batches, rows = _batches(config, data, restored)
    state = restored.state if restored else start()
    report = _report(config, workdir, done, experiment.shown)
    with contextlib.closing(report):
        report.message(_greeting(state, devices, data, workdir, done))
        parts = _Run(
            config=config,
            train_step=_compiled(experiment, devices, config.on_nan),
            look=jax.jit(experiment.look),
            measure=jax.jit(experiment.measure),
            warnings=experiment.warnings,
            devices=devices,
            data=data,
            batches=batches,
            store=store,
            report=report,
        )
        with contextlib.closing(batches):
            window = Window(store, guard.names(state), rows)
            return _train(parts, window, devices.place(state), done)


def _batches(config, data, restored):
    """The batches from where the run is, and the metrics it has not reported yet."""
    batches = input_pipeline.batches(
        data.train,
        config.batch_size,
        config.seed,
        jax.process_index(),
        jax.process_count(),
    )
    if restored is None:
        return batches, []
    # Runs of older versions stored the position alone.
    position = restored.data_state
    batches.set_state(position.get("batches", position))
    return batches, position.get("rows", [])


def _prepared(config):
    """The config without open values, fitted to the same images in every process."""
    prepared = processes.together(lambda: input_pipeline.prepare(config))
    processes.check_same(
        prepared.config.data.get("fingerprint"),
        "its data.path holds other images than that of process 0: every process needs"
        " all of them.",
    )
    for remark in prepared.remarks if processes.is_first() else ():
        print(remark)
    return prepared


def _load(config):
    """The run's data, which the first process may have to generate."""

    def load():
        return input_pipeline.load_data(config)

    data = processes.on_first(load)
    return processes.together(lambda: data or load())


def _report(config, workdir, done, shown):
    """What reports on the run, in the first process alone."""

    def start():
        with cli.user_errors(OSError):
            return Progress(workdir, config.num_steps, config.batch_size, done, shown)

    return processes.on_first(start) or Silence()


def _compiled(experiment, devices, on_nan):
    """The compiled step for every number of a step; few of them differ."""

    @functools.cache
    def compiled(train_step):
        if on_nan == "skip":
            train_step = guard.skip_what_spoils(train_step)
        return devices.compile(train_step)

    return lambda step: compiled(experiment.train_step_at(step))


def _train(run, window, state, done):
    """Makes the steps after `done`, with everything that is due along the way."""
    config, report, held_out = run.config, run.report, None
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
            if end or step % config.eval_every == 0:
                held_out = _evaluate(run, step, state)
            if processes.is_first() and (end or step % config.picture_every == 0):
                _draw(run, step, state)
            interruption = interruptions.due(step)
            # Last: a run that goes on from here has all reports of the steps before.
            if interruption or end or step % config.checkpoint_every == 0:
                _save(run, window, step, state)
            if interruption:
                raise KeyboardInterrupt(
                    f"{interruption}: stopped after step {step}, which is stored. The"
                    f" same command goes on from there."
                )
    return Result(config.num_steps, held_out)


def _save(run, window, step, state):
    """Stores a state after making sure that it is a good one."""
    rows = window.rows()
    state = run.devices.one(state)
    window.check(step, state)
    run.report.flush()
    run.store.save(step, state, {"batches": run.batches.get_state(), "rows": rows})
    run.report.start_clock(step)


def _evaluate(run, step, state):
    """Measures on the held-out scenes."""
    held_out, size = run.data.held_out, run.config.batch_size
    num, parts = len(held_out.images), []
    for start in range(0, num, size):
        # The last batch is filled up, so that all have one shape and compilation.
        indices = np.arange(start, start + size) % num
        images = held_out.images[indices]
        n = None if held_out.n is None else held_out.n[indices]
        parts.append(run.measure(run.devices.one(state), images, n))
    result = jax.tree.map(lambda *x: float(np.concatenate(x)[:num].mean()), *parts)
    run.report.held_out(step, result)
    for text in run.warnings(step, result):
        run.report.message(f"warning: {text}")
    run.report.start_clock(step)
    return result


def _draw(run, step, state):
    """Keeps a picture of what the model sees, of scenes that show something first."""
    images = run.data.held_out.images
    black = ~images.any(axis=(1, 2, 3))
    images = images[np.argsort(black, kind="stable")[:_NUM_PICTURED]]
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


def _greeting(state, devices, data, workdir, done):
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    goes_on = f", going on from step {done}" if done else ""
    return (
        f"{workdir}{goes_on}: {parameters} parameters, {len(data.train)} scenes to"
        f" train on, {len(data.held_out.images)} held out, {devices}"
    )
