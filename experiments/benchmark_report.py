"""What the benchmark found, and how it is printed."""

from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Column, Table


class Milliseconds(NamedTuple):
    """How long something took: the median, and between what the middle half lies."""

    median: float
    low: float
    high: float


class PartCost(NamedTuple):
    """A part of the train step.

    Attributes:
      name: What it is.
      per_step: How often it is done per step, on average over the run.
      time: Of doing it once.
      share: Of the run's time.
      gflop: Of doing it once, 1e9 floating-point operations.
      gflop_per_second: Its rate.
      of_matmul: That rate as a share of the machine's.
    """

    name: str
    per_step: float
    time: Milliseconds
    share: float
    gflop: float
    gflop_per_second: float
    of_matmul: float


class PhaseSpeed(NamedTuple):
    """The whole step in a phase of training."""

    name: str
    first_step: int
    num_steps: int
    time: Milliseconds
    images_per_second: float


class FormSpeed(NamedTuple):
    """A form of the networks.

    Attributes:
      name: What is plain in it.
      milliseconds: Of a step, the run's average.
      images_per_second: The same as a rate.
      gigabytes: What a step works in, besides its arguments.
    """

    name: str
    milliseconds: float
    images_per_second: float
    gigabytes: float


class Benchmark(NamedTuple):
    """All that was measured.

    Attributes:
      dataset: What scenes were like.
      device: The kind of device.
      batch_size: Images per step.
      objects_per_image: In the scenes.
      objects_seen: Per image by the taught location network.
      repeats: How often each thing was run.
      matmul_gflop_per_second: The machine's rate.
      parts: Of the step.
      phases: Of training.
      forms: This package first, then the plain ones if they were measured.
    """

    dataset: str
    device: str
    batch_size: int
    objects_per_image: float
    objects_seen: float
    repeats: int
    matmul_gflop_per_second: float
    parts: tuple[PartCost, ...]
    phases: tuple[PhaseSpeed, ...]
    forms: tuple[FormSpeed, ...]


def print_tables(result: Benchmark, console: Console) -> None:
    """Prints what was measured."""
    console.print(
        f"{result.dataset} on {result.device}, batches of {result.batch_size} images."
        f" Objects per image: {result.objects_per_image:.2f}, seen"
        f" {result.objects_seen:.2f}. Medians of {result.repeats} runs, ± half the"
        f" width of the middle half. Matrix products in float32:"
        f" {result.matmul_gflop_per_second:.0f} GFLOP/s."
    )
    console.print(_parts_table(result))
    console.print(_phases_table(result))
    if len(result.forms) > 1:
        console.print(_forms_table(result.forms))


def _table(title, first, *others):
    columns = [Column(name, justify="right", no_wrap=True) for name in others]
    table = Table(first, *columns, title=title, title_justify="left", box=box.SIMPLE)
    table.pad_edge = False
    return table


def _parts_table(result):
    names = ("a step", "ms", "share", "GFLOP", "GFLOP/s", "matmul")
    table = _table("Parts of the step, each done once", "part", *names)
    for part in result.parts:
        table.add_row(
            part.name,
            f"{part.per_step:.2f}",
            _time(part.time),
            f"{part.share:.1%}",
            f"{part.gflop:.3f}",
            f"{part.gflop_per_second:.1f}",
            f"{part.of_matmul:.1%}",
        )
    # Below zero where the compiler saves more in the whole step than is missing here.
    rest = 1 - sum(part.share for part in result.parts)
    table.add_row("the rest", "", "", f"{rest:.1%}")
    return table


def _phases_table(result):
    names = ("from step", "steps", "ms", "images/s")
    table = _table("The whole step", "what is trained", *names)
    for phase in result.phases:
        table.add_row(
            phase.name,
            f"{phase.first_step:,}",
            f"{phase.num_steps:,}",
            _time(phase.time),
            f"{phase.images_per_second:.0f}",
        )
    average = result.forms[0]
    table.add_section()
    table.add_row(
        "the run's average",
        "",
        f"{sum(phase.num_steps for phase in result.phases):,}",
        f"{average.milliseconds:.3g}",
        f"{average.images_per_second:.0f}",
    )
    return table


def _forms_table(forms):
    title = "The same networks in plain form, averages of the run"
    table = _table(title, "form", "ms", "images/s", "GB", "slower")
    own = forms[0]
    for form in forms:
        table.add_row(
            form.name,
            f"{form.milliseconds:.3g}",
            f"{form.images_per_second:.3g}",
            f"{form.gigabytes:.2f}",
            f"{own.images_per_second / form.images_per_second:.2f}×",
        )
    return table


def _time(time):
    return f"{time.median:.3g} ± {(time.high - time.low) / 2:.2g}"
