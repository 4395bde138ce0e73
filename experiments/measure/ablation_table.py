"""The table of `experiments.ablations`: results of runs, and what they look like."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

NUM_SAMPLES = 20  # importance samples of the bound at the end of each run

FIGURES = ("counts", "crowded_counts", "negative_elbo", "negative_log_p")
"""The fields of `Result` that are measured at the end of a run."""


class Moment(NamedTuple):
    """A look at the held-out scenes during training."""

    minutes: float  # of training, so far
    step: int
    counts: float  # share of held-out scenes counted right
    negative_elbo: float  # nats per image, of the latest training batches, or NaN


class Result(NamedTuple):
    """What one run gave; its last four figures are NaN if it diverged."""

    name: str  # of the setting
    changes: dict[str, Any]
    seed: int
    minutes: float  # training time in all
    diverged_at: int | None  # step
    moments: tuple[Moment, ...]
    counts: float  # share of held-out scenes counted right
    crowded_counts: float  # of scenes with more objects than in training; NaN if none
    negative_elbo: float  # nats per held-out image, with exact draws
    negative_log_p: float  # upper bound with `NUM_SAMPLES` importance samples


def moments(rows: Sequence[Mapping[str, Any]]) -> tuple[Moment, ...]:
    """Picks the looks at held-out scenes from the rows of a run, in order."""
    found, negative_elbo = [], math.nan
    for row in rows:
        if row["part"] == "train":
            negative_elbo = -row.get("elbo", math.nan)
        else:
            counts = row.get("count_accuracy", math.nan)
            found.append(Moment(row["minutes"], row["step"], counts, negative_elbo))
    return tuple(found)


def markdown(results: Sequence[Result]) -> str:
    """Writes settings with means and deviations over seeds, then all runs."""
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    return "\n\n".join(
        (
            "Counts are the share of held-out scenes counted right, and crowded counts"
            " that of scenes with more objects than in training; −ELBO and −log p(x)"
            f" (upper bound from {NUM_SAMPLES} importance samples) are nats per"
            " held-out image. ± is the standard deviation over seeds; runs that"
            " diverged are not in the means.",
            _table(["setting", "changed", "seeds", "minutes", *_HEADS], _ends(by_name)),
            "Counts, and −ELBO of training batches with the run's own draws, at the"
            " last look before so many minutes of training:",
            _over("minutes", 1, "min", by_name),
            "The same before so many steps:",
            _over("step", 500, "steps", by_name),
            "All runs:",
            _table(["run", "minutes", *_HEADS], [_run(one) for one in results]),
        )
    )


_HEADS = ["counts", "crowded counts", "−ELBO", "−log p(x) ≤"]
_FORMS = (".2%", ".2%", ".1f", ".1f")


def _table(heads, rows):
    """A table in Markdown, whose first column is text."""
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ends(by_name):
    """A row per setting, at the end of its runs."""
    for name, runs in by_name.items():
        changes = (f"`{key}={value}`" for key, value in runs[0].changes.items())
        cells = [f"`{name}`", ", ".join(changes), ", ".join(map(_seed, runs))]
        cells.append(_mean([run.minutes for run in runs], ".1f"))
        for figure, form in zip(FIGURES, _FORMS, strict=True):
            cells.append(_mean([getattr(run, figure) for run in runs], form))
        yield cells


def _over(field, first, unit, by_name):
    """A table of looks, at doubling values of minutes or steps."""
    every = [run.moments for runs in by_name.values() for run in runs if run.moments]
    longest = max((getattr(looks[-1], field) for looks in every), default=0)
    dues = [first]
    while 2 * dues[-1] <= longest:
        dues.append(2 * dues[-1])
    rows = [
        [f"`{name}`", *(_at([one.moments for one in runs], field, due) for due in dues)]
        for name, runs in by_name.items()
    ]
    return _table(["setting", *(f"{due:,} {unit}" for due in dues)], rows)


def _at(looks_of_runs, field, due):
    """The text of a setting's runs that lasted until `due`."""
    here = []
    for looks in looks_of_runs:
        before = [look for look in looks if getattr(look, field) <= due]
        if before and getattr(looks[-1], field) >= due:
            here.append(before[-1])
    counts = _mean([one.counts for one in here], ".1%")
    return f"{counts}, {_mean([one.negative_elbo for one in here], '.0f')}"


def _run(run):
    """The row of one run."""
    figures = (getattr(run, figure) for figure in FIGURES)
    cells = [_mean([x], form) for x, form in zip(figures, _FORMS, strict=True)]
    return [f"`{run.name}`, seed {_seed(run)}", f"{run.minutes:.1f}", *cells]


def _seed(run):
    """A run's seed, with where it diverged."""
    diverged = run.diverged_at is not None
    return f"{run.seed}" + (f" (diverged at {run.diverged_at})" if diverged else "")


def _mean(values, form):
    """A mean with its deviation over the runs that have the value."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return "–"
    text = f"{np.mean(values):{form}}"
    return text + (f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else "")
