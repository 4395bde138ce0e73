"""Training by the clock: many steps per dispatch, on scenes that stay on the device."""

import concurrent.futures
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from experiments import cli
from experiments.run import build, processes
from experiments.run.checkpoints import Position
from experiments.run.progress import DivergedError
from experiments.run.workdir import open_workdir
from lavae_jax.config import is_baseline
from lavae_jax.training.metrics import TrainMetrics
from lavae_jax.training.state import TrainState

_LINE_EVERY = 10  # seconds
_CHECKPOINT_EVERY = 120  # seconds


def unpack(bits: jax.Array, image_shape: tuple[int, int, int]) -> jax.Array:
    """Unpacks scenes [B, bytes] to images in {0, 1}, float32 [B, H, W, C]."""
    pixels = jnp.unpackbits(bits, axis=1, count=int(np.prod(image_shape)))
    return pixels.reshape(-1, *image_shape).astype(jnp.float32)


def make_dispatch(
    config: ConfigDict, train_step: Callable[..., Any], num_steps: int
) -> Callable[..., tuple[TrainState, TrainMetrics]]:
    """Makes a function of many train steps, each on a batch drawn from all scenes.

    It maps a state and the packed scenes [N, bytes] to the state after `num_steps` and
    the means of their metrics.
    """
    shape = tuple(config.model.image_shape)

    def dispatch(state, bits):
        def one(state, _):
            # Updates fold in 0, 1, …; another number keeps the choice of images apart.
            key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 2**31)
            index = jax.random.randint(key, (config.batch_size,), 0, len(bits))
            return train_step(state, unpack(bits[index], shape))

        state, rows = lax.scan(one, state, length=num_steps)
        return state, jax.tree.map(lambda a: a.mean(axis=0), rows)

    return dispatch


def compile_stages(
    config: ConfigDict, state: TrainState, bits: jax.Array, num_steps: int
) -> Callable[[int], Callable[..., tuple[TrainState, TrainMetrics]]]:
    """Compiles the dispatches of all stages of a run at the same time.

    Returns:
        From a step of the config's schedule, counted from 0, to its dispatch.
    """
    begin, train_step_at = time.monotonic(), build.build(config).train_step_at
    stages = list({train_step_at(step + 1) for step in range(config.num_steps)})

    def compile_one(train_step):
        dispatch = make_dispatch(config, train_step, num_steps)
        return jax.jit(dispatch, donate_argnums=0).lower(state, bits).compile()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        programs = dict(zip(stages, pool.map(compile_one, stages), strict=True))
    print(f"compiled in {time.monotonic() - begin:.0f} s", flush=True)
    return lambda step: programs[train_step_at(step + 1)]


class Clock(NamedTuple):
    """Holds how long a run has trained; the step of the schedule is in its state."""

    seconds: float = 0.0  # of training so far
    warmup_seconds: float | None = None  # None before the end of the warm-up
    num_steps: int = 0  # steps that were made


def step_by_the_clock(
    config: ConfigDict, clock: Clock, limit: float, step: int, num_steps: int
) -> int:
    """Returns the step of the schedule with which the next dispatch begins.

    The last dispatch ended with `step`, the next one has `num_steps`, and training has
    `limit` seconds in all. The warm-up is made step by step. After it, the share of
    the schedule that is done equals the share of the time that has passed, and no
    dispatch spans the step with which `tighten` begins.
    """
    if clock.warmup_seconds is None:
        return step
    warmup = build.warmup_steps(config)
    tighten = config.num_steps - config.tighten.steps
    share = min(
        (clock.seconds - clock.warmup_seconds)
        / max(limit - clock.warmup_seconds, 1e-9),
        1,
    )
    after = max(step, warmup + round(share * (config.num_steps - warmup)))
    if config.tighten.steps and step < tighten < after + num_steps:
        return tighten
    return after


class _Run(NamedTuple):
    """Holds what stays the same throughout a run."""

    config: ConfigDict
    bits: jax.Array
    program_at: Callable[[int], Callable[..., tuple[TrainState, TrainMetrics]]]
    steps_per_dispatch: int
    limit: float  # seconds of training in all


def train(
    config: ConfigDict,
    bits: np.ndarray,
    workdir: str | pathlib.Path,
    *,
    minutes: float,
    steps_per_dispatch: int = 50,
) -> tuple[TrainState, dict[str, Any]]:
    """Trains by the clock, or continues such a run.

    Args:
        config: a config of LAVAE.
        bits: the packed training scenes, [N, bytes].
        workdir: the run's folder, as that of `experiments.train`.
        minutes: of training in all, without compilation.
        steps_per_dispatch: steps between two checks of the clock, a divisor of the
            lengths of the warm-up.

    Returns:
        The state, and the metrics of the last dispatch.
    """
    _check(config, steps_per_dispatch)
    with open_workdir(workdir, config) as store:
        state, clock = _start_or_resume(config, store)
        state, bits = jax.device_put((state, bits))
        program_at = compile_stages(config, state, bits, steps_per_dispatch)
        run = _Run(config, bits, program_at, steps_per_dispatch, 60 * minutes)
        state, clock, figures = _make_steps(run, store, state, clock)
        _save(store, state, clock)
    return state, figures


def _make_steps(run, store, state, clock):
    """Trains until the time is over, or to the end of the schedule.

    The device makes the steps of a dispatch while Python reads the metrics of the one
    before, so that it never waits.
    """
    step, figures, in_flight = int(state.step), {}, None
    origin = time.monotonic() - clock.seconds
    with processes.Interruptions() as interruptions:
        while clock.seconds < run.limit and step < run.config.num_steps:
            finished = in_flight
            state, in_flight = _dispatch(run, state, clock, step)
            step, before = in_flight.step, clock
            if finished is not None:
                clock, figures = _read(run, finished, before, origin, store)
            if _is_due(_LINE_EVERY, before, clock):
                print(_line(figures, run.limit), flush=True)
            signal_name = interruptions.received(step)
            if signal_name or _is_due(_CHECKPOINT_EVERY, before, clock):
                clock, figures = _read(run, in_flight, clock, origin, store)
                in_flight = None
                _save(store, state, clock)
                origin = time.monotonic() - clock.seconds
            if signal_name:
                interruptions.stop(signal_name, step)
        if in_flight is not None:
            clock, figures = _read(run, in_flight, clock, origin, store)
    return state, clock, figures


class _Steps(NamedTuple):
    step: int  # of the schedule, after the steps of one dispatch
    means: TrainMetrics  # of these steps, which the device may still be making


def _dispatch(run, state, clock, step):
    """Starts the steps that follow `step`; returns the state after them, and them."""
    num_steps = run.steps_per_dispatch
    begin = step_by_the_clock(run.config, clock, run.limit, step, num_steps)
    state = state._replace(step=jnp.asarray(begin, jnp.int32))
    state, means = run.program_at(begin)(state, run.bits)
    return state, _Steps(begin + num_steps, means)


def _read(run, steps, before, origin, store):
    """Waits for the steps of a dispatch; returns the clock after them and figures.

    Raises:
        DivergedError: if their loss is not finite.
    """
    means, num_steps = jax.device_get(steps.means), run.steps_per_dispatch
    seconds, warm = time.monotonic() - origin, before.warmup_seconds
    if warm is None and steps.step >= build.warmup_steps(run.config):
        warm = seconds
    if not np.isfinite(means.loss):
        raise DivergedError(steps.step, f"loss is {means.loss}", store.kept())
    num_images = num_steps * run.config.batch_size
    figures = {
        "step of the schedule": steps.step,
        "steps made": before.num_steps + num_steps,
        "seconds": seconds,
        "images per second": num_images / (seconds - before.seconds),
        "loss": float(means.loss),
        "elbo": None if means.elbo is None else float(means.elbo),
    }
    return Clock(seconds, warm, before.num_steps + num_steps), figures


def _is_due(seconds, before, clock):
    """Tells whether a multiple of `seconds` lies between the times of two clocks."""
    return int(before.seconds / seconds) < int(clock.seconds / seconds)


def _save(store, state, clock):
    """Stores a state, with the clock in place of the position in the data."""
    position = Position({"clock": clock._asdict()}, [])
    store.save(int(state.step), jax.device_get(state), position)


def _check(config, steps_per_dispatch):
    """Refuses a config that can't be trained in dispatches of `steps_per_dispatch`."""
    if is_baseline(config):
        raise cli.UserError("this command trains LAVAE: use experiments.train.")
    for name in ("auxiliary_steps", "guided_steps"):
        if config.warmup[name] % steps_per_dispatch:
            raise cli.UserError(
                f"warmup.{name} must be a multiple of --steps_per_dispatch ="
                f" {steps_per_dispatch}: got {config.warmup[name]}."
            )


def _start_or_resume(config, store):
    with cli.user_errors(ValueError):
        init = build.build(config).init
    step, state, position = store.start_or_resume(init, config.seed)
    if not step:
        return state, Clock()
    clock = position.batches.get("clock")
    if clock is None:
        raise cli.UserError(
            "the --workdir holds a run of experiments.train: give another one."
        )
    return state, Clock(**clock)


def _line(figures, limit):
    left = max(limit - figures["seconds"], 0)
    numbers = "  ".join(
        f"{name} {value:.4g}"
        for name, value in figures.items()
        if value is not None and name != "seconds"
    )
    return f"{numbers}  ETA {left / 60:.1f} min"
