"""Trains a config with single settings changed, several seeds each, and compares them.

python -m experiments.ablations --seeds=3 --workdir=runs/ablations

trains every setting of `configs/bench.py`, seed after seed, on the 32×32 bench
(`--config` names another config, `--only` some of the settings) and writes `table.md`
and `table.json` to the workdir: counts and bounds at the end of the runs, and after
some minutes. A run that has ended is not repeated, an interrupted one goes on, and a
run that diverges is a result. No test split is used.
"""

import json
import math
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict

import lavae_jax
from datasets import load
from experiments import cli, curves
from experiments.configs.bench import SETTINGS
from experiments.measure import measure, report
from experiments.own import data as own_data
from experiments.run import input_pipeline, limits, loop
from experiments.run.progress import DivergedError
from lavae_jax import metrics

_FILE = "ablation.json"
_NUM_SAMPLES = 20  # importance samples of the bound at the end of each run
_FIGURES = {  # head and number format of each figure, by its field in `Result`
    "minutes": ("minutes", ".1f"),
    "counts": ("counts", ".2%"),
    "crowded_counts": ("crowded counts", ".2%"),
    "negative_elbo": ("−ELBO", ".1f"),
    "negative_log_p": ("−log p(x) ≤", ".1f"),
}
_MINUTES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)  # the table compares at these


class Result(NamedTuple):
    """Holds the results of a run; `minutes` and what follows are NaN if it diverged."""

    name: str  # of the setting
    changes: dict[str, Any]
    seed: int
    diverged_at: int | None  # step
    held_out: curves.HeldOutCurve
    minutes: float  # of training in all
    counts: float  # share of held-out scenes counted right
    crowded_counts: float  # of scenes with more objects than in training; NaN if none
    negative_elbo: float  # nats per held-out image, with exact draws
    negative_log_p: float  # upper bound with 20 importance samples


def changed(config: ConfigDict, changes: Mapping[str, Any], seed: int) -> ConfigDict:
    """Copies a config, changes values by their full names, and sets the seed."""
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
        config: a config of LAVAE, which the settings change.
        settings: the changed values of each setting, by its name.
        seeds: each setting is trained once with each of them.
        workdir: the folder of all runs and of the table.

    Returns:
        All results in the workdir; those of `settings` come first, in their order.
    """
    workdir = pathlib.Path(workdir)
    runs = [
        (name, changed(config, changes, seed))
        for name, changes in settings.items()
        for seed in seeds
    ]
    for number, (name, run_config) in enumerate(runs, start=1):
        folder = workdir / f"{name}-seed{run_config.seed}"
        if not (folder / _FILE).exists():
            print(f"run {number} of {len(runs)}: {folder}", flush=True)
            result = _train(name, settings[name], run_config, folder)
            with cli.user_errors(OSError):
                report.write(result, folder / _FILE)
            _write_table(workdir, list(settings))
    return _write_table(workdir, list(settings))


def _train(name, changes, config, folder):
    """Trains and measures one run; one that diverges is not measured."""
    diverged_at, figures = None, dict.fromkeys(_FIGURES, math.nan)
    try:
        loop.train_and_evaluate(config, folder)
        figures = _measure(config, folder)
    except DivergedError as error:
        print(f"  the run diverged: step {error.step} is not finite")
        diverged_at = error.step
    return Result(
        name=name,
        changes=dict(changes),
        seed=config.seed,
        diverged_at=diverged_at,
        held_out=curves.read(folder),
        **figures,
    )


def _measure(config, folder):
    """Measures the newest model of a run: figures by their names in `Result`."""
    model, variables = lavae_jax.load(folder)
    held_out = input_pipeline.load_data(config).held_out
    images = measure.ImageSet("held-out scenes", held_out.images)
    settings = measure.Settings(num_samples=_NUM_SAMPLES)
    inferred = measure.infer(model, variables, images, settings)
    log_weights = inferred.log_weights.T
    elbo, bound = metrics.importance_bounds(log_weights, [1, _NUM_SAMPLES])
    return {
        "minutes": curves.read(folder).minutes[-1],
        "counts": math.nan
        if held_out.n is None
        else metrics.count_accuracy(held_out.n, inferred.scenes.n),
        "crowded_counts": _crowded_counts(config, model, variables),
        "negative_elbo": float(-elbo.log_p.mean()),
        "negative_log_p": float(-bound.log_p.mean()),
    }


def _crowded_counts(config, model, variables):
    """Measures the share of right counts of more objects; NaN without such a split."""
    names = () if own_data.is_own(config) else load.splits(config.data.name)
    for name in names:
        if re.fullmatch(r"validation_\d+", name):
            data, num = config.data, config.num_eval_images
            folders = (data.data_dir, data.manual_dir)
            with cli.user_errors(ValueError, OSError):
                crowded = measure.read_split(data.name, name, folders, num)
            settings = measure.Settings(num_samples=1)
            inferred = measure.infer(model, variables, crowded, settings)
            return metrics.count_accuracy(crowded.truth.n, inferred.scenes.n)
    return math.nan


def _write_table(workdir, names):
    """Writes and returns all results in a workdir; those in `names` come first."""
    results = []
    with cli.user_errors(ValueError, TypeError, OSError):
        for path in sorted(workdir.glob(f"*/{_FILE}")):
            results.append(report.typed(Result, json.loads(path.read_text())))
        places = {name: place for place, name in enumerate(names)}
        results.sort(key=lambda run: places.get(run.name, len(names)))
        report.write(results, workdir / "table.json")
        (workdir / "table.md").write_text(markdown(results), encoding="utf-8")
    return results


def markdown(results: Sequence[Result]) -> str:
    """Writes settings with means and deviations over seeds, then all runs."""
    heads = [head for head, _ in _FIGURES.values()]
    settings = [["setting", "changed", "seeds", *heads]]
    for name, runs in _by_name(results).items():
        changes = ", ".join(f"`{key}={x}`" for key, x in runs[0].changes.items())
        seeds = ", ".join(map(_seed, runs))
        settings.append([f"`{name}`", changes, seeds, *_means(runs)])
    each = [[f"`{run.name}`, seed {_seed(run)}", *_means([run])] for run in results]
    return (
        "Counts are the share of held-out scenes counted right, and crowded counts that"
        " of scenes with more objects than in training; −ELBO and −log p(x) (upper"
        f" bound from {_NUM_SAMPLES} importance samples) are nats per held-out image."
        " ± is the standard deviation over seeds; runs that diverged are not in the"
        f" means.\n\n{report.markdown_table(settings)}\n"
        "After so many minutes of training, interpolated between measurements (a run"
        " that has ended keeps its last figures):\n\n"
        f"{_history(results)}\n"
        f"All runs:\n\n{report.markdown_table([['run', *heads], *each])}"
    )


def _by_name(results):
    """Groups runs by their settings."""
    groups: dict[str, list[Result]] = {}
    for run in results:
        groups.setdefault(run.name, []).append(run)
    return groups


def _seed(run):
    """Writes a run's seed, and where it diverged."""
    diverged = run.diverged_at is not None
    return f"{run.seed}" + (f" (diverged at {run.diverged_at})" if diverged else "")


def _means(runs):
    """Writes the mean of each figure over runs."""
    for field, (_, form) in _FIGURES.items():
        yield _mean([getattr(run, field) for run in runs], form)


def _mean(values, form):
    """Writes the mean and the deviation of the values that are known."""
    values = [value for value in values if not math.isnan(value)]
    return report.over_seeds(values, form) if values else "–"


def _history(results):
    """Writes means over seeds after some minutes of the runs."""
    finished = [run for run in results if run.diverged_at is None]
    last = max((run.held_out.minutes[-1] for run in finished), default=0)
    minutes = [minute for minute in _MINUTES if minute <= last]
    rows = [["", "setting", *map(str, minutes)]]
    for figure in ("counts", "negative_elbo"):
        head, form = _FIGURES[figure]
        for name, runs in _by_name(finished).items():
            values = [  # a figure is unknown before it is first measured
                np.interp(minutes, curve.minutes, getattr(curve, figure), left=math.nan)
                for curve in (run.held_out for run in runs)
            ]
            cells = [_mean(known, form) for known in zip(*values, strict=True)]
            rows.append([head, f"`{name}`", *cells])
    return report.markdown_table(rows, num_texts=2)


def main() -> None:
    """Makes the runs that the command line names, and prints the table."""
    values = flags.FLAGS
    if unknown := [name for name in values.only if name not in SETTINGS]:
        raise cli.UserError(f"--only: {', '.join(unknown)} not in {list(SETTINGS)}.")
    chosen = {name: SETTINGS[name] for name in values.only or SETTINGS}
    seeds = range(values.config.seed, values.config.seed + values.seeds)
    results = ablate(values.config, chosen, seeds, values.workdir)
    print(markdown(results))


def _define_flags():
    """Defines the command's flags; not on import, as other commands share names."""
    cli.define_config()
    flags.DEFINE_integer("seeds", 3, "Train each setting with this number of seeds.")
    flags.DEFINE_list("only", [], "Train these settings (default: all).")
    flags.DEFINE_string("workdir", "runs/ablations", "Keep runs and table here.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main, default_config="experiments/configs/bench.py")
