"""Draws what runs measured on held-out scenes during training, over minutes.

python -m experiments.curves --workdir=runs/one,runs/other --out=DIR

draws counts and −ELBO of all these runs into `DIR/curves.png`, each up to its latest
step, and writes the figures of each to `DIR/RUN.json`. `--workdir` takes such a file
too. A dotted line marks the end of each warm-up.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import cli
from experiments.measure import report
from lavae_jax import plotting, runs


class HeldOutCurve(NamedTuple):
    """Holds what a run measured on held-out scenes, in order of steps."""

    steps: tuple[int, ...]
    minutes: tuple[float, ...]  # of training so far, without the first step
    counts: tuple[float, ...]  # shares of the scenes counted right
    negative_elbo: tuple[float, ...]  # nats per image, with exact draws
    warmup_minutes: float = math.nan  # when the warm-up ended; NaN if it has not


def read(path: str | pathlib.Path) -> HeldOutCurve:
    """Reads the curve of a run's workdir, or of a file that this command wrote."""
    path = pathlib.Path(path)
    if path.is_file():
        try:
            return report.typed(HeldOutCurve, json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} has no figures of a run: {error}.") from error
    table = path / "metrics.jsonl"
    lines = table.read_text().splitlines() if table.exists() else []
    rows = [json.loads(line) for line in lines]
    # The speed is 0 where the first step alone, which compiles, has been made.
    timed = [row for row in rows if row.get("steps_per_second")]
    steps = [0, *(row["step"] for row in timed)]
    speeds = [row["steps_per_second"] for row in timed]
    minutes = np.cumsum([0, *(np.diff(steps) / speeds / 60)])
    held_out = [row for row in rows if row["part"] == "held_out"]
    return HeldOutCurve(
        steps=tuple(row["step"] for row in held_out),
        minutes=tuple(np.interp([row["step"] for row in held_out], steps, minutes)),
        counts=tuple(row.get("count_accuracy", math.nan) for row in held_out),
        negative_elbo=tuple(-row.get("elbo", math.nan) for row in held_out),
        warmup_minutes=float(
            np.interp(_warmup_steps(path), steps, minutes, right=math.nan)
        ),
    )


def _warmup_steps(workdir):
    """Returns how many steps the warm-up has; NaN where that is not known."""
    try:
        warmup = runs.read_config(workdir)["warmup"]
    except (FileNotFoundError, KeyError):
        return math.nan
    return warmup["auxiliary_steps"] + warmup["guided_steps"]


def draw(curves: Mapping[str, HeldOutCurve]) -> Figure:
    """Draws counts and −ELBO of several runs, by their names, over minutes."""
    figure = Figure(figsize=(9, 4), dpi=150, layout="constrained")
    counts, elbo = figure.subplots(1, 2)
    for number, (name, curve) in enumerate(curves.items()):
        style = dict(color=f"C{number}", label=name)
        counts.plot(curve.minutes, 100 * np.array(curve.counts), **style)
        elbo.plot(curve.minutes, curve.negative_elbo, **style)
        for axes in (counts, elbo):
            axes.axvline(curve.warmup_minutes, color=f"C{number}", linestyle=":")
    counts.set(xlabel="minutes of training", ylabel="held-out scenes counted right, %")
    elbo.set(xlabel="minutes of training", ylabel="−ELBO, nats per held-out image")
    elbo.set_yscale("log")
    counts.legend()
    return figure


def main() -> None:
    """Draws the runs that the command line names."""
    out, curves = pathlib.Path(flags.FLAGS.out), {}
    for argument in flags.FLAGS.workdir:
        path = pathlib.Path(argument)
        with cli.user_errors(OSError, ValueError):
            curve = read(path)
        if not curve.steps:
            raise cli.UserError(f"{path} has measured nothing on held-out scenes yet.")
        name = path.name.removesuffix(".json")
        if name in curves:
            raise cli.UserError(f"two runs are called {name}: rename a folder or file.")
        curves[name] = curve
    with cli.user_errors(OSError):
        for name, curve in curves.items():
            report.write(curve, out / f"{name}.json")
        plotting.save(draw(curves), out / "curves.png")
    print(f"{len(curves)} curves are in {out / 'curves.png'}.")


def _define_flags():
    """Defines the command's flags; not on import, as other commands share names."""
    flags.DEFINE_list("workdir", None, "Draw these runs, or files of such figures.")
    flags.DEFINE_string("out", "runs/curves", "The folder for picture and figures.")
    flags.mark_flag_as_required("workdir")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
