"""Compiles the train steps of a config for TPUs, with their compiler, without a TPU.

python -m experiments.tpu_check --config=experiments/configs/dsprites.py

Every phase of training is compiled for every slice, as one program for all of its
chips, and the table says whether it fits the memory of a chip, how large its code is,
and how long compilation took here. Nothing is run, so there are no times of steps.
The compiler is part of libtpu: `pip install 'jax[tpu]'`.
"""

import functools
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from experiments import benchmark, cli
from experiments.run import build
from lavae_jax.training.parallel import AXIS

_GIB, _MIB = 2**30, 2**20


class Slice(NamedTuple):
    """Chips that train together."""

    topology: str  # what libtpu calls a slice that has these chips, and maybe more
    num_chips: int  # how many of them are compiled for
    memory: int  # bytes of a chip, from its maker's data sheet


# https://docs.cloud.google.com/tpu/docs/v5e and .../v4: 16 and 32 GiB of HBM. A v4-32
# is named by its TensorCores, two per chip.
SLICES = {
    "v5e-1": Slice("v5e:2x2", 1, 16 * _GIB),
    "v5e-8": Slice("v5e:2x4", 8, 16 * _GIB),
    "v4-32": Slice("v4:2x2x4", 16, 32 * _GIB),
}


@functools.cache
def mesh(name: str) -> Mesh:
    """Returns the chips of one of `SLICES`, one device per chip."""
    if importlib.util.find_spec("libtpu") is None:
        raise cli.UserError(
            "the TPU compiler is missing: install it by pip install 'jax[tpu]'."
        )
    # Otherwise libtpu asks the metadata server of a cloud which TPU this machine has.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    wanted = SLICES[name]
    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=wanted.topology
    )
    # A v4 chip is listed with both of its cores, which work as one device.
    chips = {tuple(device.coords): device for device in reversed(topology.devices)}
    devices = [chips[coords] for coords in sorted(chips)][: wanted.num_chips]
    return Mesh(np.array(devices), (AXIS,))


class Program(NamedTuple):
    """A compiled train step."""

    memory: int  # bytes of arguments, results, temporaries and code on one chip
    code: int  # bytes of its code alone
    seconds: float  # how long it was traced and compiled


def compile_step(
    step: Callable[..., Any], state: Any, images: Any, chips: Mesh
) -> Program:
    """Compiles a train step for all chips of a mesh.

    State and images, those of all chips, may be abstract.

    Raises:
        jax.errors.JaxRuntimeError: if the step needs more memory than a chip has.
    """
    whole, shared = PartitionSpec(), PartitionSpec(AXIS)
    if chips.size > 1:
        # Training uses `jax.pmap`, which maps a step in this way but needs real chips.
        step = jax.shard_map(
            step,
            mesh=chips,
            in_specs=(whole, shared),
            out_specs=(whole, whole),
            # The step itself averages what it returns.
            check_vma=False,
        )
    shardings = tuple(NamedSharding(chips, spec) for spec in (whole, shared))
    program = jax.jit(step, in_shardings=shardings, donate_argnums=0)
    start = time.time()
    used = program.lower(state, images).compile().memory_analysis()
    seconds, code = time.time() - start, used.generated_code_size_in_bytes
    memory = (
        used.argument_size_in_bytes
        + used.output_size_in_bytes
        - used.alias_size_in_bytes  # results that take the place of arguments
        + used.temp_size_in_bytes
        + code
    )
    return Program(memory, code, seconds)


def rows(config: ConfigDict, names: list[str]) -> Iterator[str]:
    """Yields the lines of the table, as Markdown, each as soon as it is known.

    The names are those of `SLICES`. Each chip has a whole `batch_size` of images.
    """
    yield "| slice | chips | from step | steps | chip's memory | code | compiled in |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name in names:
        chips, available = mesh(name), SLICES[name].memory / _GIB
        axis_name = AXIS if chips.size > 1 else None
        with cli.user_errors(ValueError):
            experiment = build.build(config, axis_name)
        state = jax.eval_shape(experiment.init, jax.random.key(0))
        shape = (chips.size * config.batch_size, *config.model.image_shape)
        images = jax.ShapeDtypeStruct(shape, np.uint8)
        for first, num, step in benchmark.find_phases(
            experiment.train_step_at, config.num_steps
        ):
            try:
                program = compile_step(step, state, images, chips)
                cells = (
                    f"{program.memory / _GIB:.2f} of {available:.0f} GiB"
                    f" | {program.code / _MIB:.1f} MiB | {program.seconds:.0f} s"
                )
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                cells = f"more than {available:.0f} GiB | |"
            yield f"| {name} | {chips.size} | {first:,} | {num:,} | {cells} |"


def main() -> None:
    """Prints the table of the config named on the command line."""
    values = flags.FLAGS
    if unknown := [name for name in values.slices if name not in SLICES]:
        raise cli.UserError(
            f"--slices: there is no {', '.join(unknown)}. Choose from"
            f" {', '.join(SLICES)}."
        )
    # This needs no TPU as device, and compiles every program anew.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    mesh(values.slices[0])  # fails before the table begins if libtpu is missing
    size, precision = values.config.batch_size, values.config.precision
    print(f"{cli.config_name()}, {size} images per chip, {precision}:\n")
    for row in rows(values.config, values.slices):
        print(row, flush=True)


def _define_flags():
    cli.define_config()
    flags.DEFINE_list("slices", list(SLICES), "Compile for these slices of TPUs.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
