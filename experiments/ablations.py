"""Trains a config with single settings changed, several seeds each, and compares them.

python -m experiments.ablations --seeds=3 --workdir=runs/ablations

trains every setting of `SETTINGS`, seed after seed, on the config of the 32×32 bench
(`--config` names another one) and writes `table.md` and `table.json` to the workdir:
counts and bounds at the end, and after 1, 2, 4, 8, ... minutes of training, without
compilation. A run that has ended is not repeated, an interrupted one goes on, and a run
that diverges is a result. All figures are of scenes held out from the training split.
"""

import json
import math
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict

import lavae_jax
from experiments import cli
from experiments.measure import measure, report
from experiments.run import input_pipeline, limits, loop
from experiments.run.window import DivergedError
from lavae_jax import metrics

CONFIG = "experiments/configs/bench.py"

SETTINGS: dict[str, dict[str, Any]] = {
    "base": {},
    "half-batch": {"batch_size": 8},
    "batch-norm": {"model.norm": "batch"},
    "trunk": {"model.appearance_net": "trunk"},
    "conv-sprites": {"model.sprite_net": "conv"},
    "radius-0": {"model.exclusion_radius": 0},
    "adamax": {"optimizer.name": "adamax"},
    "constant-rates": {"optimizer.decay": "constant"},
}
"""Values of the config by their full names, for each setting by its own name."""
NUM_SAMPLES = 20  # importance samples of the bound at the end of each run

_FILE = "ablation.json"


class Moment(NamedTuple):
    """A run after some minutes of training; NaN for what is not known by then."""

    minutes: float
    counts: float  # share of held-out scenes counted right, at the last look
    negative_elbo: float  # nats per image, of the latest training batches


class Result(NamedTuple):
    """What one run gave; its last three figures are NaN if it diverged."""

    name: str  # of the setting
    changes: dict[str, Any]
    seed: int
    minutes: float  # training time in all
    diverged_at: int | None  # step
    moments: tuple[Moment, ...]  # after 1, 2, 4, ... minutes
    counts: float  # share of held-out scenes counted right
    negative_elbo: float  # nats per held-out image, with exact draws
    negative_log_p: float  # upper bound with `NUM_SAMPLES` importance samples


def changed(config: ConfigDict, changes: Mapping[str, Any], seed: int) -> ConfigDict:
    """Copies a config, changes values by their full names, and sets the seed.

    Raises:
        cli.UserError: If the config has no such value, or nothing can be trained with
            the new ones.
    """
    if unknown := sorted(changes.keys() - cli.flatten(config).keys()):
        raise cli.UserError(f"the config has no value {', '.join(unknown)}.")
    result = config.copy_and_resolve_references()
    with cli.user_errors(ValueError, TypeError):
        result.update_from_flattened_dict({**changes, "seed": seed})
        limits.check(result)
    return result


def ablate(
    config: ConfigDict,
    settings: Mapping[str, Mapping[str, Any]],
    seeds: Collection[int],
    workdir: str | pathlib.Path,
) -> list[Result]:
    """Makes all runs that have no result yet, and writes the table after each.

    Args:
        config: A config of LAVAE, which the settings change.
        settings: Changed values for each setting by its name.
        seeds: One run of every setting for each of them.
        workdir: Folder of all runs and of the table.

    Returns:
        All results in the workdir; those of `settings` come first, in their order.

    Raises:
        cli.UserError: If a setting, the data or the workdir can't be used.
    """
    workdir = pathlib.Path(workdir)
    runs = [
        (name, changed(config, changes, seed))
        for name, changes in settings.items()
        for seed in seeds
    ]
    for number, (name, one) in enumerate(runs, start=1):
        folder = workdir / f"{name}-seed{one.seed}"
        if not (folder / _FILE).exists():
            print(f"run {number} of {len(runs)}: {folder}", flush=True)
            result = _train(name, settings[name], one, folder)
            with cli.user_errors(OSError):
                report.write(result, folder / _FILE)
            _write_table(workdir, list(settings))
    return _write_table(workdir, list(settings))


def _train(name, changes, config, folder):
    """Trains and measures one run; one that diverges is not measured."""
    diverged_at, figures = None, (math.nan, math.nan, math.nan)
    try:
        loop.train_and_evaluate(config, folder)
        figures = _measure(config, folder)
    except DivergedError as error:
        print(f"  the run diverged: step {error.step} is not finite")
        diverged_at = error.step
    rows = _timed_rows(folder)
    minutes = rows[-1]["minutes"] if rows else 0.0
    start = (name, dict(changes), config.seed, minutes, diverged_at, moments(rows))
    return Result(*start, *figures)


def _measure(config, folder):
    """Counts, −ELBO and bound of the newest model of a run, on its held-out scenes."""
    model, variables = lavae_jax.load(folder)
    held_out = input_pipeline.load_data(config).held_out
    images = measure.ImageSet("held-out scenes", held_out.images)
    settings = measure.Settings(num_samples=NUM_SAMPLES)
    inferred = measure.infer(model, variables, images, settings)
    log_weights = inferred.log_weights.astype(np.float64)
    (bound,) = metrics.importance_bounds(log_weights.T, [NUM_SAMPLES])
    counts = metrics.count_accuracy(held_out.n, inferred.scenes.n)
    return counts, float(-log_weights.mean()), float(-bound.log_p.mean())


def _timed_rows(folder):
    """The rows of a run's metrics.jsonl, with the minutes trained up to each."""
    path, rows, minutes, last_step = folder / "metrics.jsonl", [], 0.0, 0
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        if row["part"] == "train":
            minutes += (row["step"] - last_step) / row["steps_per_second"] / 60
            last_step = row["step"]
        rows.append(row | {"minutes": minutes})
    return rows


def moments(rows: Sequence[Mapping[str, Any]]) -> tuple[Moment, ...]:
    """Picks the state of a run after 1, 2, 4, ... minutes.

    Args:
        rows: What the run reported, in order; each with `minutes` and its metrics.
    """
    found, due = [], 1.0
    while rows and due <= rows[-1]["minutes"]:
        counts, negative_elbo = math.nan, math.nan
        for row in rows:
            if row["minutes"] <= due:
                counts = row.get("count_accuracy", counts)
                if row["part"] == "train" and "elbo" in row:
                    negative_elbo = -row["elbo"]
        found.append(Moment(due, counts, negative_elbo))
        due *= 2
    return tuple(found)


def _write_table(workdir, names):
    """Writes and returns all results in a workdir; those in `names` come first."""
    results = []
    with cli.user_errors(ValueError, TypeError, OSError):
        for path in sorted(workdir.glob(f"*/{_FILE}")):
            results.append(report.typed(Result, json.loads(path.read_text())))
        places = {name: place for place, name in enumerate(names)}
        results.sort(key=lambda one: places.get(one.name, len(names)))
        report.write(results, workdir / "table.json")
        (workdir / "table.md").write_text(markdown(results), encoding="utf-8")
    return results


def markdown(results: Sequence[Result]) -> str:
    """Writes the table: a row per setting, with means and deviations over its seeds."""
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    minutes = sorted({one.minutes for run in results for one in run.moments})
    heads = ["setting", "changed", "seeds", "minutes", "counts", "−ELBO", "−log p(x) ≤"]
    heads += [f"{minute:g} min" for minute in minutes]
    lines = [heads, ["---"] * 3 + ["--:"] * (len(heads) - 3)]
    lines += [_cells(runs, minutes) for runs in by_name.values()]
    return (
        "Counts are the share of held-out scenes counted right; −ELBO and −log p(x)"
        f" (upper bound from {NUM_SAMPLES} importance samples) are nats per held-out"
        " image. ± is the standard deviation over seeds. The last columns are the"
        " counts and the −ELBO of training batches after so many minutes of training."
        "\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    )


def _cells(runs, minutes):
    """The texts of one setting's row."""
    changes = ", ".join(f"`{name}={value}`" for name, value in runs[0].changes.items())
    seeds = [
        f"{run.seed}" + (f" (diverged at {run.diverged_at})" if run.diverged_at else "")
        for run in runs
    ]
    cells = [f"`{runs[0].name}`", changes, ", ".join(seeds)]
    cells.append(_mean([run.minutes for run in runs], ".1f"))
    cells.append(_mean([run.counts for run in runs], ".2%"))
    cells.append(_mean([run.negative_elbo for run in runs], ".1f"))
    cells.append(_mean([run.negative_log_p for run in runs], ".1f"))
    for minute in minutes:
        here = [one for run in runs for one in run.moments if one.minutes == minute]
        counts = _mean([one.counts for one in here], ".1%")
        cells.append(f"{counts}, {_mean([one.negative_elbo for one in here], '.0f')}")
    return cells


def _mean(values, form):
    """A mean with its deviation over the runs that have the value."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return "–"
    text = f"{np.mean(values):{form}}"
    return text + (f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else "")


def main() -> None:
    """Makes the runs that the command line names, and prints the table."""
    values = flags.FLAGS
    if unknown := [name for name in values.only if name not in SETTINGS]:
        raise cli.UserError(f"--only: {', '.join(unknown)} not in {list(SETTINGS)}.")
    chosen = {name: SETTINGS[name] for name in values.only or SETTINGS}
    seeds = range(values.config.seed, values.config.seed + values.seeds)
    print(markdown(ablate(values.config, chosen, seeds, values.workdir)))


def _define_flags():
    """Defines the command's flags; not on import, as other commands share names."""
    cli.define_config()
    flags.DEFINE_integer("seeds", 3, "How many seeds each setting is trained with.")
    flags.DEFINE_list("only", [], "Names of the settings to train; all by default.")
    flags.DEFINE_string("workdir", "runs/ablations", "Folder of runs and table.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main, default_config=CONFIG)
