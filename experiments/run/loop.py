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

from experiments import cli
from experiments.measure.measure import in_batches
from experiments.own.data import CountedImages
from experiments.run import build, input_pipeline, limits, processes
from experiments.run.build import Experiment
from experiments.run.checkpoints import Checkpoints, Position
from experiments.run.progress import Progress, Window
from experiments.run.workdir import open_workdir
from lavae_jax.training.parallel import Devices


class Result(NamedTuple):
    """Holds the step at which a run ended, and its last measurement."""

    step: int
    held_out: Any  # means over the held-out scenes; None if it had ended before


class _Run(NamedTuple):
    """Holds what stays the same throughout a run."""

    config: ConfigDict
    experiment: Experiment
    devices: Devices
    batches: Iterator[np.ndarray]
    held_out: CountedImages
    measure: Callable[..., Any]  # the experiment's, compiled
    store: Checkpoints
    window: Window
    report: Progress | None  # of the first process, which reports for all


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Trains a model, or continues the run in this workdir.

    The workdir gets `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/` and
    `pictures/`. On an interruption (SIGINT, SIGTERM) the state is stored before this
    ends, and the same call continues from there; the steps of an interrupted run are
    bitwise those of an unbroken one.

    In several processes (`processes.join`), all of them call this; only the first reads
    and writes the workdir.

    Args:
        config: what `get_config` of a file in `experiments/configs` gives.
        workdir: the run's folder; made when it does not exist.
        devices: what to run on, by default every device of every process.

    Raises:
        cli.UserError: if the config, the data or the workdir can't be used, before any
            long work.
        DivergedError: if the run diverges; it is a `cli.UserError` too.
        KeyboardInterrupt: after an interruption.
    """
    processes.check_same(
        cli.flatten(config),
        "its --config has other values than that of process 0: give every process the"
        " same.",
    )
    devices = Devices(devices)
    with cli.user_errors(ValueError):
        limits.check_batch(config, len(devices.devices))
    prepared = _prepare(config)
    with cli.user_errors(ValueError):
        experiment = build.build(prepared.config, devices.axis_name)
    return run(experiment, prepared.config, workdir, devices, prepared.data)


def run(
    experiment: Experiment,
    config: ConfigDict,
    workdir: str | pathlib.Path,
    devices: Devices,
    data: input_pipeline.Data | None = None,
) -> Result:
    """Trains what has been built; see `train_and_evaluate`.

    The steps run on the devices, and average over their `axis_name`. Without `data`,
    the data set of the config is opened.
    """
    with open_workdir(workdir, config) as store:
        return _start_or_resume(experiment, config, workdir, devices, data, store)


def _start_or_resume(experiment, config, workdir, devices, data, store):
    step, state, position = store.start_or_resume(experiment.init, config.seed)
    if step >= config.num_steps:
        print(
            f"{workdir} has made its {step} steps; --config.num_steps=N continues to N."
        )
        return Result(step, None)
    data = data or _load(config)
    with contextlib.ExitStack() as stack:
        batches = _batches(config, data.train, position)
        stack.enter_context(contextlib.closing(batches))
        # This comes last, as it removes what was reported after the checkpoint.
        report = processes.on_first(
            lambda: Progress(
                workdir, config.num_steps, config.batch_size, step, experiment.shown
            )
        )
        if report is not None:
            stack.enter_context(contextlib.closing(report))
            report.message(_greeting(workdir, step, state, data, devices))
        run = _Run(
            config=config,
            experiment=experiment,
            devices=devices,
            batches=batches,
            held_out=data.held_out,
            measure=jax.jit(experiment.measure),
            store=store,
            window=Window(store, position.rows),
            report=report,
        )
        return _train(run, devices.replicate(state), step)


def _train(run: _Run, state: Any, done: int) -> Result:
    """Makes the steps after `done`; logs, measures, draws and saves when it is due."""
    config, held_out, begin = run.config, None, time.monotonic()
    with processes.Interruptions() as interruptions:
        for step in range(done + 1, config.num_steps + 1):
            with cli.user_errors(ValueError):
                images = run.devices.shard(next(run.batches))
            train_step = run.devices.compile(run.experiment.train_step_at(step))
            state, metrics = train_step(state, images)
            run.window.add(step, metrics)
            is_last = step == config.num_steps
            if step == done + 1:
                _report_first_step(run, step, begin)
            if is_last or step % config.log_every == 0:
                means = run.window.mean()
                tell = functools.partial(Progress.train, step=step, metrics=means)
                _report(run, step, tell)
            if is_last or step % config.eval_every == 0:
                held_out = _evaluate(run, step, state)
            if is_last or step % config.picture_every == 0:
                _draw(run, step, state)
            signal_name = interruptions.received(step)
            # This comes last: a run continued from here has all earlier reports.
            if signal_name or is_last or step % config.checkpoint_every == 0:
                _save(run, step, state)
            if signal_name:
                interruptions.stop(signal_name, step)
    return Result(config.num_steps, held_out)


def _report_first_step(run, step, begin):
    """Reports the time of the first step, which includes its compilation."""
    run.window.rows()  # waits for it
    text = f"first step: {time.monotonic() - begin:.1f} s"
    _report(run, step, lambda report: report.message(text))


def _evaluate(run, step, state):
    measure = functools.partial(run.measure, run.devices.unreplicate(state))
    figures = in_batches(measure, tuple(run.held_out), run.config.batch_size)
    means = jax.tree.map(lambda figure: float(figure.mean()), figures)

    def tell(report):
        report.held_out(step, means)
        for text in run.experiment.warnings(step, means):
            report.message(f"warning: {text}")

    _report(run, step, tell)
    return means


def _draw(run, step, state):
    state, images = run.devices.unreplicate(state), run.held_out.images
    draw = functools.partial(run.experiment.draw, state, build.first_lit(images))
    _report(run, step, lambda report: report.picture(step, draw()))


def _save(run, step, state):
    """Stores a state, unless a number of the steps up to it is not finite."""
    rows, state = run.window.rows(), run.devices.unreplicate(state)
    run.window.check_state(step, state)
    _report(run, step, Progress.flush)
    run.store.save(step, state, Position(run.batches.get_state(), rows))
    _report(run, step, lambda report: None)


def _report(run, step, work):
    """Calls `work` with the report, in the process that has one.

    The time that this takes does not count as time of train steps.
    """

    def report():
        work(run.report)
        run.report.start_clock(step)

    processes.on_first(report)


def _prepare(config):
    """Returns the config with all values set, from the same images in every process."""
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
    """Loads the run's data, which the first process may have to generate."""
    load = functools.partial(input_pipeline.load_data, config)
    data = processes.on_first(load)
    return processes.together(lambda: data or load())


def _batches(config, images, position):
    place = jax.process_index(), jax.process_count()
    batches = input_pipeline.batches(images, config.batch_size, config.seed, *place)
    if "clock" in position.batches:
        raise cli.UserError(
            "the --workdir holds a run of experiments.accelerator: give another one."
        )
    if position.batches:
        batches.set_state(position.batches)
    return batches


def _greeting(workdir, step, state, data, devices):
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    goes_on = f", going on from step {step}" if step else ""
    return (
        f"{workdir}{goes_on}: {parameters} parameters, {len(data.train)} scenes to"
        f" train on, {len(data.held_out.images)} held out, {devices}"
    )
