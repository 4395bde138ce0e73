"""Compiled programs: how much they compute, and how long they take."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import auto as tqdm

from experiments.benchmark_report import Milliseconds


class Program(NamedTuple):
    """Something compiled, to be timed.

    Attributes:
      run: The compiled function.
      args: What it is called with.
      gflop: 1e9 floating-point operations of a call.
    """

    run: jax.stages.Compiled
    args: tuple[Any, ...]
    gflop: float

    @property
    def has_branches(self) -> bool:
        """Whether what is computed depends on values; `gflop` is of the costliest."""
        return " conditional(" in self.run.as_text()

    @property
    def gigabytes(self) -> float:
        """What a call works in, besides arguments and results."""
        return self.run.memory_analysis().temp_size_in_bytes / 1e9

    def rate(self, milliseconds: float) -> float:
        """GFLOP per second of a call that takes so long."""
        return 1e3 * self.gflop / milliseconds


def make(function: Callable[..., Any], *args: Any) -> Program:
    """Compiles a function for its arguments; XLA counts its operations."""
    compiled = jax.jit(function).lower(*args).compile()
    return Program(compiled, args, compiled.cost_analysis()["flops"] / 1e9)


def matmul() -> Program:
    """A product of matrices large enough to keep the device busy."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    square = jax.random.normal(jax.random.key(0), (side, side))
    return make(jnp.matmul, square, square)


def measure(programs: Mapping[Any, Program], repeats: int) -> dict[Any, Milliseconds]:
    """Times programs, one after the other and then again from the first.

    Args:
      programs: What to run, by name; each once before the clock starts.
      repeats: How often.

    Returns:
      The time of each program.
    """
    seconds = np.empty((repeats + 1, len(programs)))
    for row in tqdm.tqdm(seconds, desc="measuring"):
        for index, program in enumerate(programs.values()):
            start = time.perf_counter()
            jax.block_until_ready(program.run(*program.args))
            row[index] = time.perf_counter() - start
    quartiles = np.percentile(1e3 * seconds[1:], (50, 25, 75), axis=0).T.tolist()
    return {
        name: Milliseconds(*values)
        for name, values in zip(programs, quartiles, strict=True)
    }
