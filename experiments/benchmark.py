"""Times the train step of a config on this machine, phase by phase.

python -m experiments.benchmark --config=experiments/configs/dsprites.py:laptop

A phase is a function that `build.Experiment.train_step_at` gives for some steps of a
run. For each phase this prints the median time of a step on one device, the
floating-point operations that XLA counts in the compiled step, and what follows from
them for the whole run. XLA counts one turn of a loop, and the costliest of several
branches. The images are black with up to three lit squares, so no data set is needed.

What a step computes can depend on how many objects the model sees. A fresh model sees
none; --workdir=DIR takes the parameters of a training run of the same config.
"""

import collections
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table
from tqdm import auto as tqdm

import lavae_jax
from experiments import cli
from experiments.measure import report
from experiments.own import data as own_data
from experiments.run import build

_SQUARES = (3, 1, 2, 0)  # lit squares of one image after the other


class Phase(NamedTuple):
    """One kind of step of a run.

    Attributes:
        first_step: The first step of this kind, counted from 1.
        num_steps: How many steps of the run are of this kind.
        train_step: The function that makes such a step.
    """

    first_step: int
    num_steps: int
    train_step: Callable[..., Any]


class PhaseCost(NamedTuple):
    """What a step of a phase costs.

    Attributes:
        first_step: The first step of the phase, counted from 1.
        num_steps: How many steps of the run are of this phase.
        milliseconds: Median time of a step.
        gflop: 1e9 floating-point operations of a step.
        compile_seconds: How long it took to compile the step.
    """

    first_step: int
    num_steps: int
    milliseconds: float
    gflop: float
    compile_seconds: float


class Benchmark(NamedTuple):
    """What was measured.

    Attributes:
        device: What the steps ran on.
        batch_size: Images per step.
        repeats: How often each step was timed.
        phases: The costs of each phase, in the order in which a run comes to them.
        milliseconds: Mean over all steps of the run.
        images_per_second: Mean over the run.
    """

    device: str
    batch_size: int
    repeats: int
    phases: tuple[PhaseCost, ...]
    milliseconds: float
    images_per_second: float


def find_phases(
    train_step_at: Callable[[int], Callable[..., Any]], num_steps: int
) -> list[Phase]:
    """Lists the distinct train steps of a run, in the order of their first steps."""
    counts = collections.Counter(map(train_step_at, range(1, num_steps + 1)))
    first_steps: dict[Callable[..., Any], int] = {}
    for step in range(1, num_steps + 1):
        first_steps.setdefault(train_step_at(step), step)
    return [
        Phase(first_step, counts[train_step], train_step)
        for train_step, first_step in first_steps.items()
    ]


def make_images(
    num_images: int, image_shape: tuple[int, int, int], seed: int = 0
) -> np.ndarray:
    """Makes black images with 3, 1, 2, 0, 3, ... lit squares at random places.

    Returns:
        [B, H, W, C] uint8 with values 0 and 255; a square's side is a fifth of H.
    """
    rng = np.random.default_rng(seed)
    height, width, channels = image_shape
    side = max(height // 5, 1)
    images = np.zeros((num_images, *image_shape), np.uint8)
    for index, image in enumerate(images):
        for _ in range(_SQUARES[index % len(_SQUARES)]):
            row = rng.integers(height - side + 1)
            column = rng.integers(max(width - side, 0) + 1)
            colour = rng.integers(1, 2**channels) >> np.arange(channels) & 1
            image[row : row + side, column : column + side] = 255 * colour
    return images


def benchmark(
    config: ConfigDict, repeats: int = 10, workdir: str | pathlib.Path | None = None
) -> Benchmark:
    """Measures the train step of a config.

    Args:
        config: A run's config.
        repeats: How often each phase's step is timed. The phases take turns, so that
            other load on the machine slows all of them alike.
        workdir: A training run whose newest parameters are used; None for fresh ones.

    Raises:
        cli.UserError: If a value of the config is invalid, or the run in the workdir
            has another model.
    """
    if repeats < 1:
        raise cli.UserError(f"--repeats must be at least 1: got {repeats}.")
    if own_data.is_own(config):
        raise cli.UserError(
            "the benchmark needs a config whose values are all set: take the config of"
            " a named data set, or pass one with its model.image_shape and so on."
        )
    with cli.user_errors(ValueError):
        experiment = build.build(config)
    phases = find_phases(experiment.train_step_at, config.num_steps)
    state = _initial_state(experiment, config, workdir)
    images = make_images(config.batch_size, tuple(config.model.image_shape))
    compiled, states, seconds = [], [], []
    for phase in tqdm.tqdm(phases, desc="compiling"):
        start = time.perf_counter()
        first = jnp.asarray(phase.first_step - 1, state.step.dtype)
        states.append(state._replace(step=first))
        step = jax.jit(phase.train_step)
        compiled.append(step.lower(states[-1], images).compile())
        seconds.append(time.perf_counter() - start)
    times = _time(compiled, states, images, repeats)
    costs = tuple(
        PhaseCost(
            first_step=phase.first_step,
            num_steps=phase.num_steps,
            milliseconds=float(np.median(times[index])),
            gflop=compiled[index].cost_analysis()["flops"] / 1e9,
            compile_seconds=seconds[index],
        )
        for index, phase in enumerate(phases)
    )
    total = sum(cost.num_steps * cost.milliseconds for cost in costs)
    return Benchmark(
        device=jax.devices()[0].device_kind,
        batch_size=config.batch_size,
        repeats=repeats,
        phases=costs,
        milliseconds=total / config.num_steps,
        images_per_second=1e3 * config.batch_size * config.num_steps / total,
    )


def _initial_state(experiment, config, workdir):
    """A fresh training state, with the parameters of a run if one is given."""
    if workdir is not None:
        with cli.user_errors(ValueError, OSError):
            _, variables = lavae_jax.load(workdir)
    state = jax.jit(experiment.init)(jax.random.key(config.seed))
    if workdir is None:
        return state
    params = variables["params"]
    # LAVAE's parameters lie beside those of its warm-up's auxiliary VAE.
    if "lavae" in state.params:
        params = state.params | {"lavae": params}
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, state.params):
        raise cli.UserError(f"{workdir} has another model than --config.")
    return state._replace(params=params, batch_stats=variables["batch_stats"])


def _time(compiled, states, images, repeats):
    """Times every program once per round: [phases, repeats] ms."""
    for run, state in zip(compiled, states, strict=True):
        jax.block_until_ready(run(state, images))
    times = np.zeros((len(compiled), repeats))
    for repeat in range(repeats):
        for index, (run, state) in enumerate(zip(compiled, states, strict=True)):
            start = time.perf_counter()
            jax.block_until_ready(run(state, images))
            times[index, repeat] = 1e3 * (time.perf_counter() - start)
    return times


def print_table(result: Benchmark, console: Console) -> None:
    """Prints one row per phase and a line on the whole run."""
    table = Table(
        *("first step", "steps", "ms", "GFLOP", "GFLOP/s", "images/s"),
        "compiled in, s",
    )
    for cost in result.phases:
        per_second = 1e3 / cost.milliseconds
        table.add_row(
            f"{cost.first_step:,}",
            f"{cost.num_steps:,}",
            f"{cost.milliseconds:.1f}",
            f"{cost.gflop:.2f}",
            f"{cost.gflop * per_second:.1f}",
            f"{result.batch_size * per_second:.1f}",
            f"{cost.compile_seconds:.1f}",
        )
    console.print(table)
    console.print(
        f"{result.device}, batches of {result.batch_size}: on average over the run, a"
        f" step takes {result.milliseconds:.1f} ms, which is"
        f" {result.images_per_second:.1f} images/s."
    )


def main() -> None:
    """Prints the table of the config that the command line names."""
    values = flags.FLAGS
    result = benchmark(values.config, values.repeats, values.workdir)
    print_table(result, Console())
    if values.json is not None:
        with cli.user_errors(OSError):
            report.write(result, pathlib.Path(values.json))


def _define_flags():
    """Defines the command's flags; not on import, as other commands share names."""
    cli.define_config()
    flags.DEFINE_integer("repeats", 10, "How often the step of each phase is timed.")
    flags.DEFINE_string("workdir", None, "A training run whose parameters are used.")
    flags.DEFINE_string("json", None, "A file to which the figures are written.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
