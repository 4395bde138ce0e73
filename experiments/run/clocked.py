"""Training by the clock: many steps per dispatch, on scenes that stay on the device."""

import concurrent.futures
import contextlib
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
from experiments.run.checkpoints import Checkpoints, Position
from experiments.run.workdir import open_workdir
from lavae_jax.config import is_baseline
from lavae_jax.training.metrics import TrainMetrics
from lavae_jax.training.state import TrainState

_LINE_EVERY = 10  # seconds
_CHECKPOINT_EVERY = 120  # seconds


def unpack(bits: jax.Array, image_shape: tuple[int, int, int]) -> jax.Array:
    """Packed scenes [B, bytes] to images in {0, 1}, float32 [B, H, W, C]."""
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
            # The draws within a step are streams of images and updates, from 0 on.
            key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 2**31)
            index = jax.random.randint(key, (config.batch_size,), 0, len(bits))
            return train_step(state, unpack(bits[index], shape))

        state, rows = lax.scan(one, state, length=num_steps)
        return state, jax.tree.map(lambda a: a.mean(axis=0), rows)

    return dispatch


class Program(NamedTuple):
    """A compiled dispatch, and what XLA says of one of its steps."""

    run: Callable[..., tuple[TrainState, TrainMetrics]]
    gigaflops: float
    gigabytes: float


def compile_stages(
    config: ConfigDict, state: TrainState, bits: jax.Array, num_steps: int
) -> Callable[[int], Program]:
    """Compiles the dispatches of all stages of a run at the same time.

    Returns:
        From a step of the config's schedule, counted from 0, to its program.
    """
    train_step_at, last = build.build(config).train_step_at, config.num_steps
    warmup, tighten = build.warmup_steps(config), last - config.tighten.steps
    begin = (0, config.warmup.auxiliary_steps, warmup, tighten)
    stages = list({train_step_at(step + 1) for step in begin if step < last})

    def compile_one(train_step):
        dispatch = jax.jit(
            make_dispatch(config, train_step, num_steps), donate_argnums=0
        )
        program = dispatch.lower(state, bits).compile()
        # XLA counts the body of a loop once, however often it runs: that of the steps,
        # and that of further updates of h_app and f_sprite, which count too little.
        cost = program.cost_analysis() or {}
        return Program(
            program, cost.get("flops", 0) / 1e9, cost.get("bytes accessed", 0) / 1e9
        )

    with concurrent.futures.ThreadPoolExecutor() as pool:
        programs = dict(zip(stages, pool.map(compile_one, stages), strict=True))
    return lambda step: programs[train_step_at(step + 1)]


class Clock(NamedTuple):
    """How far a run is.

    Attributes:
        seconds: of training so far.
        warm: how many of them the warm-up took; None before its end.
        made: steps that were made. The state's step is that of the config's schedule.
    """

    seconds: float = 0.0
    warm: float | None = None
    made: int = 0


def step_by_the_clock(
    config: ConfigDict, clock: Clock, limit: float, step: int, num_steps: int
) -> int:
    """The step of the config's schedule with which the next dispatch begins.

    The last dispatch ended with `step`, the next one has `num_steps`, and training has
    `limit` seconds in all. The warm-up is made step by step. After it the schedule is
    as far as the clock, and no dispatch begins before and ends after the step with
    which `tighten` begins.
    """
    if clock.warm is None:
        return step
    warmup = build.warmup_steps(config)
    tighten = config.num_steps - config.tighten.steps
    share = min((clock.seconds - clock.warm) / max(limit - clock.warm, 1e-9), 1)
    after = max(step, warmup + round(share * (config.num_steps - warmup)))
    if config.tighten.steps and step < tighten < after + num_steps:
        return tighten
    return after


def train(
    config: ConfigDict,
    bits: np.ndarray,
    workdir: str | pathlib.Path,
    *,
    minutes: float,
    pause_after: float | None = None,
    steps_per_dispatch: int = 50,
) -> tuple[TrainState, dict[str, Any]]:
    """Trains by the clock, or goes on with it.

    Args:
        config: a config of LAVAE that trains h_loc in every step.
        bits: the packed training scenes, [N, bytes].
        workdir: the run's folder, as that of `experiments.train`.
        minutes: of training in all, without compilation.
        pause_after: minutes after which this call stores the state and returns.
        steps_per_dispatch: steps between two looks at the clock, a divisor of the
            lengths of the warm-up.

    Returns:
        The state, and figures of the last dispatch.

    Raises:
        cli.UserError: if the config or the workdir can't be used.
    """
    _check(config, steps_per_dispatch)
    with (
        open_workdir(workdir, config),
        contextlib.closing(Checkpoints(workdir)) as store,
    ):
        state, clock = _begin(config, store)
        state, bits = jax.device_put((state, bits))
        began = time.monotonic()
        program_at = compile_stages(config, state, bits, steps_per_dispatch)
        print(f"compiled in {time.monotonic() - began:.0f} s", flush=True)
        limit, figures, step = 60 * minutes, {}, int(state.step)
        stop = min(limit, clock.seconds + 60 * (pause_after or minutes))
        with processes.Interruptions() as interruptions:
            while clock.seconds < stop and step < config.num_steps:
                step = step_by_the_clock(config, clock, limit, step, steps_per_dispatch)
                state = state._replace(step=jnp.asarray(step, jnp.int32))
                program, begin = program_at(step), time.monotonic()
                state, means = program.run(state, bits)
                means = jax.device_get(means)
                step += steps_per_dispatch
                before = clock
                clock = _after(config, before, step, begin, steps_per_dispatch)
                figures = _figures(config, program, means, step, before, clock)
                _check_finite(means, step, store)
                if _is_due(_LINE_EVERY, before, clock):
                    print(_line(figures, limit), flush=True)
                signal_name = interruptions.received(step)
                if signal_name or _is_due(_CHECKPOINT_EVERY, before, clock):
                    _save(store, step, state, clock)
                if signal_name:
                    raise KeyboardInterrupt(
                        f"{signal_name}: stopped, and stored the state. The same"
                        " command goes on from there."
                    )
        _save(store, step, state, clock)
    return state, figures


def _is_due(seconds, before, clock):
    """Whether a multiple of so many seconds lies between two times."""
    return int(before.seconds / seconds) < int(clock.seconds / seconds)


def _save(store, step, state, clock):
    """Stores a state, with the clock as its row of metrics."""
    position = Position({"next_index": 0}, [clock._asdict()])
    store.save(step, jax.device_get(state), position)


def _check_finite(means, step, store):
    """Ends a run that diverges, without a checkpoint of it."""
    if not np.isfinite(means.loss):
        raise cli.UserError(
            f"the loss is {means.loss} before step {step}: the run has diverged."
            f" {store.kept()} Start again in another --workdir with smaller learning"
            " rates (--config.optimizer...)."
        )


def _check(config, steps_per_dispatch):
    """Refuses a config that can't be trained in dispatches of so many steps."""
    if is_baseline(config) or config.elbo.location_every != 1:
        raise cli.UserError(
            "this command trains LAVAE, and h_loc in every step: set"
            " --config.elbo.location_every=1, or use experiments.train."
        )
    for name in ("auxiliary_steps", "guided_steps"):
        if config.warmup[name] % steps_per_dispatch:
            raise cli.UserError(
                f"warmup.{name} must be a multiple of --steps_per_dispatch ="
                f" {steps_per_dispatch}: got {config.warmup[name]}."
            )


def _begin(config, store):
    init = build.build(config).init
    restored = store.restore(jax.eval_shape(init, jax.random.key(0)))
    if restored is None:
        return init(jax.random.key(config.seed)), Clock()
    rows = restored.position.rows
    clock = rows[0] if rows else {}
    if clock.keys() != set(Clock._fields):
        raise cli.UserError(
            "the --workdir holds a run of experiments.train: give another one."
        )
    return restored.state, Clock(**clock)


def _after(config, clock, step, begin, num_steps):
    seconds = clock.seconds + time.monotonic() - begin
    warm = clock.warm
    if warm is None and step >= build.warmup_steps(config):
        warm = seconds
    return Clock(seconds, warm, clock.made + num_steps)


def _figures(config, program, means, step, before, clock):
    per_second = (clock.made - before.made) / (clock.seconds - before.seconds)
    return {
        "step of the schedule": step,
        "steps made": clock.made,
        "seconds": clock.seconds,
        "images per second": per_second * config.batch_size,
        "TFLOP per second": per_second * program.gigaflops / 1e3,
        "TB per second": per_second * program.gigabytes / 1e3,
        "loss": float(means.loss),
        "elbo": None if means.elbo is None else float(means.elbo),
    }


def _line(figures, limit):
    left = max(limit - figures["seconds"], 0)
    numbers = "  ".join(
        f"{name} {value:.4g}"
        for name, value in figures.items()
        if value is not None and name != "seconds"
    )
    return f"{numbers}  ETA {left / 60:.1f} min"
