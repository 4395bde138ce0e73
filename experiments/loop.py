"""The training loop: one entry point for the command line, notebooks and tests."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from experiments import build, cli, input_pipeline, limits, processes, seeds
from experiments.devices import Devices
from experiments.interruptions import Interruptions
from experiments.members import Eyes, Member, opened, started
from lavae_jax.training import guard


class Result(NamedTuple):
    """Where a run ended."""

    step: int
    held_out: Any
    """Means over the held-out scenes of what the experiment measures there, of several
    models a tuple of them; None if the run had already ended before."""


class _Run(NamedTuple):
    """What stays the same throughout a run."""

    config: ConfigDict
    train_step: Callable[..., Any]
    eyes: Eyes
    models: seeds.Seeds
    members: Sequence[Member]


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

    A config with `num_seeds` above 1 trains so many models at once: each has all this
    in a folder of the workdir, `seed_0` and so on, as if it had been trained alone.

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
    processes.check_same(
        cli.flatten(config),
        "its --config has other values than that of process 0: give every process the"
        " same.",
    )
    used = Devices(devices)
    with cli.user_errors(ValueError):
        limits.check_counts(config, len(used.devices))
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
    singles = seeds.singles(config, workdir)
    processes.on_first(lambda: seeds.check_workdirs(singles, workdir))
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(opened(single)) for single in singles]
        try:
            return _run(experiment, config, devices, data, singles, stores)
        except OSError as error:
            raise cli.UserError(
                f"the system refuses to read or write a file: {error}.\n"
                f"{_kept(singles, stores)} Once this is put right, the same command"
                " goes on from there."
            ) from error


def _run(experiment, config, devices, data, singles, stores):
    """The run, once the workdirs are its own."""
    restored = seeds.restore(stores, jax.eval_shape(experiment.init, jax.random.key(0)))
    done = restored[0].step if restored[0] else 0
    if done >= config.num_steps:
        for single in singles:
            print(
                f"{single.workdir} has made its {done} steps; --config.num_steps=N goes"
                " on to N."
            )
        return Result(done, None)
    data = data or _load(config)
    with contextlib.ExitStack() as stack:
        begun = [
            stack.enter_context(started(experiment, *one, data.train))
            for one in zip(singles, stores, restored, strict=True)
        ]
        trained, states = zip(*begun, strict=True)
        for single, member, state in zip(singles, trained, states, strict=True):
            greeting = _greeting(state, devices, data, single.workdir, done)
            member.report.message(greeting)
        models = seeds.Seeds(devices, len(singles))
        run = _Run(
            config=config,
            train_step=_compiled(experiment, models, config.on_nan),
            eyes=Eyes(
                look=jax.jit(experiment.look),
                measure=jax.jit(experiment.measure),
                warnings=experiment.warnings,
                held_out=data.held_out,
            ),
            models=models,
            members=trained,
        )
        return _train(run, models.place(states), done)


def _kept(singles, stores):
    """What is left of every model after an error."""
    pairs = zip(singles, stores, strict=True)
    return " ".join(f"{single.label}{store.kept()}" for single, store in pairs)


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


def _compiled(experiment, models, on_nan):
    """The compiled step for every number of a step; few of them differ."""
    guarded = guard.skip_what_spoils if on_nan == "skip" else guard.tell_what_spoils

    @functools.cache
    def compiled(train_step):
        return models.compile(guarded(train_step))

    return lambda step: compiled(experiment.train_step_at(step))


def _train(run, states, done):
    """Makes the steps after `done`, with everything that is due along the way."""
    config, held_out = run.config, None
    begin = time.monotonic()
    with Interruptions() as interruptions:
        for step in range(done + 1, config.num_steps + 1):
            with interruptions.held_back(), cli.user_errors(ValueError):
                batches = [next(member.batches) for member in run.members]
            if step == done + 1:
                interruptions.tell()
            states, metrics = run.train_step(step)(states, batches)
            for member, measured in zip(run.members, metrics, strict=True):
                member.window.add(step, measured)
            end = step == config.num_steps
            with interruptions.held_back():
                if step == done + 1:
                    _start_clocks(run, step, begin)
                if end or step % config.log_every == 0:
                    for member in run.members:
                        member.report.train(step, member.window.mean())
                if end or step % config.eval_every == 0:
                    held_out = _evaluate(run, step, states)
                if processes.is_first() and (end or step % config.picture_every == 0):
                    for member, state in _each(run, states):
                        member.draw(run.eyes, step, state)
            interruption = interruptions.due(step)
            # Last: a run that goes on from here has all reports of the steps before.
            if interruption or end or step % config.checkpoint_every == 0:
                interruptions.tell()
                for member, state in _each(run, states):
                    member.save(step, state)
            if interruption:
                raise KeyboardInterrupt(
                    f"{interruption}: stopped after step {step}, which is stored. The"
                    f" same command goes on from there."
                )
    return Result(config.num_steps, held_out)


def _each(run, states):
    """Every member with its state."""
    return zip(run.members, run.models.each(states), strict=True)


def _start_clocks(run, step, begin):
    """Tells how long the first step took, which is not like the others."""
    for member in run.members:
        member.window.fetch()
        member.report.message(f"first step: {time.monotonic() - begin:.1f} s")
        member.report.start_clock(step)


def _evaluate(run, step, states):
    """Measures on the held-out scenes: the means, of several models one after other."""
    measured = tuple(
        member.evaluate(run.eyes, run.config.batch_size, step, state)
        for member, state in _each(run, states)
    )
    return measured if len(measured) > 1 else measured[0]


def _greeting(state, devices, data, workdir, done):
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    goes_on = f", going on from step {done}" if done else ""
    return (
        f"{workdir}{goes_on}: {parameters} parameters, {len(data.train)} scenes to"
        f" train on, {len(data.held_out.images)} held out, {devices}"
    )
