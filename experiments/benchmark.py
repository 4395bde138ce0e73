"""Times the train step of a config on this machine, phase by phase.

python -m experiments.benchmark --config=experiments/configs/dsprites.py:laptop

A phase is a function that `build.Experiment.train_step_at` gives for some steps of a
run. For each phase this prints the median time of a step on one device, its time to
compile, and the floating-point operations of the compiled step, for which XLA counts
one iteration of a loop, and the costliest of several branches. The parameters are
fresh, and the images are black with a white square, so that no data set is needed.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tqdm import auto as tqdm

from experiments import cli
from experiments.run import build


class Phase(NamedTuple):
    """One kind of step of a run."""

    first_step: int  # the first step of this kind, counted from 1
    num_steps: int  # how many steps of the run are of this kind
    train_step: Callable[..., Any]  # makes such a step


class Cost(NamedTuple):
    """Holds the costs of a step of a phase."""

    phase: Phase
    milliseconds: float  # median
    gflop: float  # 1e9 floating-point operations
    compile_seconds: float  # with tracing and the first step


def find_phases(
    train_step_at: Callable[[int], Callable[..., Any]], num_steps: int
) -> list[Phase]:
    """Lists the distinct train steps of a run, in the order of their first steps."""
    numbers: dict[Callable[..., Any], list[int]] = {}
    for number in range(1, num_steps + 1):
        numbers.setdefault(train_step_at(number), []).append(number)
    return [Phase(steps[0], len(steps), make) for make, steps in numbers.items()]


def benchmark(config: ConfigDict, repeats: int = 10) -> list[Cost]:
    """Times a step of each phase of a run `repeats` times.

    The phases take turns, so that other load on the machine slows all of them alike.
    """
    with cli.user_errors(ValueError):
        experiment = build.build(config)
    phases = find_phases(experiment.train_step_at, config.num_steps)
    fresh = experiment.init(jax.random.key(config.seed))
    height, width, channels = config.model.image_shape
    images = np.zeros((config.batch_size, height, width, channels), np.uint8)
    images[:, height // 3 : height // 2, width // 3 : width // 2] = 255
    states, programs, seconds = [], [], []
    for phase in tqdm.tqdm(phases, desc="compiling"):
        first = jnp.asarray(phase.first_step - 1, fresh.step.dtype)
        states.append(fresh._replace(step=first))
        start = time.perf_counter()
        programs.append(jax.jit(phase.train_step).lower(states[-1], images).compile())
        jax.block_until_ready(programs[-1](states[-1], images))
        seconds.append(time.perf_counter() - start)
    milliseconds = np.zeros((len(phases), repeats))
    for repeat in range(repeats):
        for index, program in enumerate(programs):
            start = time.perf_counter()
            jax.block_until_ready(program(states[index], images))
            milliseconds[index, repeat] = 1e3 * (time.perf_counter() - start)
    medians = np.median(milliseconds, axis=1).tolist()
    gflop = [program.cost_analysis()["flops"] / 1e9 for program in programs]
    return list(map(Cost, phases, medians, gflop, seconds))


def main() -> None:
    """Prints the costs of the config that the command line names."""
    # A program from an earlier run would hide the time that it takes to compile.
    jax.config.update("jax_enable_compilation_cache", False)
    config = flags.FLAGS.config
    costs = benchmark(config, flags.FLAGS.repeats)
    for phase, milliseconds, gflop, seconds in costs:
        print(
            f"from step {phase.first_step:,}, {phase.num_steps:,} steps:"
            f" {milliseconds:.1f} ms, {gflop:.2f} GFLOP, compiled in {seconds:.1f} s"
        )
    total = sum(cost.phase.num_steps * cost.milliseconds for cost in costs)
    print(
        f"{jax.devices()[0].device_kind}, batches of {config.batch_size}: a step takes"
        f" {total / config.num_steps:.1f} ms on average over the run"
    )


def _define_flags():
    cli.define_config()
    flags.DEFINE_integer(
        "repeats", 10, "Repeat each step this number of times.", lower_bound=1
    )


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
