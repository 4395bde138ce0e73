"""Predicts how long a train step takes on machines that are not there.

python -m experiments.scaling --config=experiments/configs/dsprites.py

Prints the tables of `experiments/SCALING.md`. The step of the longest phase of training
is compiled on this machine, and XLA counts its floating-point operations and the bytes
it moves (`scaling_count`). A chip takes as long as the slower of the two takes at its
peak rates (a roofline), and then exchanges sums with the others:

    operations / peak    bytes / memory bandwidth
    parameters × 4 bytes × 2 (N − 1) / N / bandwidth between chips
    number of sums, one after the other × latency

Nothing is run. What a real machine adds (kernels below the peak rates, input, reports)
makes a step longer; a compiler that fuses more than that of a CPU makes it shorter.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import flags

from experiments import cli
from experiments.scaling_count import Count, Counter, Exchange

LATENCY = 10e-6
"""Seconds for one small sum over all chips. Assumed, not from a data sheet."""

PRECISIONS = ("float32", "bfloat16")


class Chip(NamedTuple):
    """What the maker of a chip says of it.

    Attributes:
      name: How it is called.
      float32: Operations per second of products of float32 arrays as JAX has them by
        default: in bfloat16 passes on a TPU, in TF32 on a GPU.
      bfloat16: The same of bfloat16 arrays.
      memory: Bytes per second.
      links: Bytes per second that it adds to a sum over all chips; 0 for one alone.
    """

    name: str
    float32: float
    bfloat16: float
    memory: float
    links: float


# https://docs.cloud.google.com/tpu/docs/v5e: 197 TFLOPs bf16, HBM2 819 GBps, all-reduce
# bandwidth per pod of 256 chips 51.2 TBps.
V5E = Chip("TPU v5e", 197e12, 197e12, 819e9, 51.2e12 / 256)
# https://docs.cloud.google.com/tpu/docs/v4: 275 teraflops bf16, HBM2 1200 GBps,
# all-reduce bandwidth per pod of 4096 chips 1.1 PB/s.
V4 = Chip("TPU v4", 275e12, 275e12, 1200e9, 1.1e15 / 4096)
# https://www.nvidia.com/en-us/data-center/h100, which states twice these rates of
# products, for matrices of which half is 0; memory 3.35 TB/s.
H100 = Chip("H100 SXM", 494.7e12, 989.4e12, 3350e9, 0.0)


class Machine(NamedTuple):
    """So many chips that train together."""

    name: str
    chip: Chip
    num: int


MACHINES = (
    Machine("TPU v5e-8", V5E, 8),
    Machine("TPU v4-32", V4, 16),  # named by its TensorCores, two per chip
    Machine("one H100", H100, 1),
)


class Prediction(NamedTuple):
    """Milliseconds of a step."""

    compute: float
    memory: float
    gradients: float
    sums: float

    @property
    def step(self) -> float:
        """All of it: products hide behind memory or the other way round."""
        return max(self.compute, self.memory) + self.gradients + self.sums


def predict(
    count: Count, exchange: Exchange, chip: Chip, num: int, precision: str = "float32"
) -> Prediction:
    """Predicts a step.

    Args:
      count: Of one chip's share of the batch, in float32.
      exchange: What chips tell each other.
      chip: What it is made on.
      num: How many of them.
      precision: With bfloat16, arrays take half the bytes: at best, as some of them
        stay float32.
    """
    gigabytes = count.gigabytes / (2 if precision == "bfloat16" else 1)
    compute = 1e12 * count.gflop / getattr(chip, precision)
    memory = 1e12 * gigabytes / chip.memory
    if num == 1:
        return Prediction(compute, memory, 0.0, 0.0)
    sent = exchange.parameters * 4 * 2 * (num - 1) / num
    return Prediction(
        compute, memory, 1e3 * sent / chip.links, 1e3 * LATENCY * exchange.sums
    )


def shares(batch_sizes: Sequence[int]) -> list[int]:
    """The images per chip that have to be counted, one chip alone included.

    Raises:
      cli.UserError: For a batch that a machine can't share evenly.
    """
    for batch in batch_sizes:
        for machine in MACHINES:
            if batch < 1 or batch % machine.num:
                raise cli.UserError(
                    f"--batch_sizes must be multiples of the {machine.num} chips of a"
                    f" {machine.name}: got {batch}."
                )
    found = {batch // m.num for batch in batch_sizes for m in MACHINES}
    return sorted(found | set(batch_sizes))


def tables(
    exchange: Exchange, counts: Mapping[int, Count], batch_sizes: Sequence[int]
) -> str:
    """The counts, the predictions, and the arithmetic of each, as Markdown.

    Args:
      exchange: What chips tell each other.
      counts: By the number of images, those of `shares(batch_sizes)`.
      batch_sizes: Images per step, of all chips together.
    """
    rows = [
        (machine, batch, precision)
        for machine in MACHINES
        for batch in batch_sizes
        for precision in PRECISIONS
    ]
    return "\n".join(
        [
            f"{exchange.parameters:,} parameters with gradients; {exchange.sums} sums"
            " over devices, one after the other.",
            "",
            "| images per chip | GFLOP | GB |",
            "|--:|--:|--:|",
            *(
                f"| {images} | {count.gflop:.1f} | {count.gigabytes:.2f} |"
                for images, count in counts.items()
            ),
            "",
            "| machine | batch | precision | compute, ms | memory, ms | exchange, ms |"
            " step, ms | images/s | of N times one chip |",
            "|---|--:|---|--:|--:|--:|--:|--:|--:|",
            *(_row(exchange, counts, *row) for row in rows),
            "",
            "```",
            *(_arithmetic(exchange, counts, *row) for row in rows),
            "```",
        ]
    )


def _row(exchange, counts, machine, batch, precision):
    chip, num = machine.chip, machine.num
    found = predict(counts[batch // num], exchange, chip, num, precision)
    alone = predict(counts[batch], exchange, chip, 1, precision)
    return (
        f"| {machine.name} | {batch} | {precision} | {found.compute:.2f} |"
        f" {found.memory:.2f} | {found.gradients + found.sums:.2f} |"
        f" {found.step:.2f} | {1e3 * batch / found.step:,.0f} |"
        f" {alone.step / (num * found.step):.0%} |"
    )


def _arithmetic(exchange, counts, machine, batch, precision):
    chip, num = machine.chip, machine.num
    count = counts[batch // num]
    found = predict(count, exchange, chip, num, precision)
    half = " / 2" if precision == "bfloat16" else ""
    lines = [
        f"{machine.name}, {batch} images, {precision}:",
        f"  {count.gflop:.1f} GFLOP / {getattr(chip, precision) / 1e12:.1f} TFLOP/s ="
        f" {found.compute:.2f} ms",
        f"  {count.gigabytes:.2f} GB{half} / {chip.memory / 1e9:.0f} GB/s ="
        f" {found.memory:.2f} ms",
    ]
    if num > 1:
        lines += [
            f"  {exchange.parameters} × 4 B × 2 × {num - 1}/{num} /"
            f" {chip.links / 1e9:.0f} GB/s = {found.gradients:.3f} ms",
            f"  {exchange.sums} × {LATENCY * 1e6:.0f} µs = {found.sums:.2f} ms",
        ]
    return "\n".join(lines)


def main() -> None:
    """Prints the tables of the config named on the command line."""
    values = flags.FLAGS
    with cli.user_errors(ValueError):
        batch_sizes = [int(size) for size in values.batch_sizes]
    wanted = shares(batch_sizes)
    counter = Counter(values.config)
    costs = counter.costs()
    counts = {num: costs.of(num) for num in wanted}
    print(
        f"{values.config.data.name}, {counter.phase.num_steps:,} of"
        f" {values.config.num_steps:,} steps: {counter.phase.name}. Predicted, not"
        " measured.\n"
    )
    print(tables(counter.exchange(), counts, batch_sizes))


def _define_flags():
    """The flags of the command; not on import, where others may have the same names."""
    cli.define_config()
    flags.DEFINE_list("batch_sizes", ["64", "512"], "Images per step, of all chips.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
