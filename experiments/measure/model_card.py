"""Writes the card of a released model: how it was trained, and what it reaches."""

import math
import shlex
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from datasets import load, scene_builder
from experiments import cli
from experiments.configs import (
    base,
    baseline_dsprites,
    baseline_mnist_1k,
    baseline_mnist_10k,
    dsprites,
    mnist_1k,
    mnist_10k,
)
from experiments.measure.report import Report, SplitReport
from experiments.run import config as run_config
from lavae_jax.config import is_baseline

_LAVAE_CONFIGS = {"dsprites": dsprites, "mnist_1k": mnist_1k, "mnist_10k": mnist_10k}
_BASELINE_CONFIGS = {
    "baseline_dsprites": baseline_dsprites,
    "baseline_mnist_1k": baseline_mnist_1k,
    "baseline_mnist_10k": baseline_mnist_10k,
}

_CARD = """\
# {name}

{family}, trained without labels on `{data}`, version {version}: images with
{trained_on}.

```python
model, variables = lavae_jax.load_pretrained("{name}")
```

## Training

```bash
{command}
```

- Data: {num_train:,} scenes of the training split. Its last {num_valid:,} are held out
  to choose settings. `datasets/{folder}/README.md` tells how scenes are made.
- The run made {num_steps:,} steps of {batch_size} images.
- These are the weights of seed {seed}. All seeds measured with these settings: {seeds}.
- It was measured with {versions}.

## Figures

```bash
python -m experiments.evaluate --weights={name} \\
  --num_images={num_images} --seed={evaluation_seed}
```

{test_splits}

± is the standard error over images for a seed, the standard deviation over seeds for
their mean.
{tables}
## Limits

- Images are {height}×{width} pixels with {channels}, each 0 or 1: sprites on black that
  do not overlap.
{objects}
- −log p(x) is an upper bound. It is loose where few importance samples carry all the
  weight.
"""

_LAVAE_TEST_SPLITS = """\
No test split was used in training, but one had a part in choosing settings: the limits
of `appearance.from_outputs` (it bends means beyond 5 and caps log-variances) were set
after scenes of test_7 had been seen to fail. They took the bound on −log p(x) of
multi-MNIST-1k's test_7 from 223.5 ± 38.5 to 178.0 ± 0.3 nats with the same weights, of
an earlier run. Figures on test_7 are therefore not of scenes that nobody had looked
at."""

_BASELINE_TEST_SPLITS = """\
No test split was used in training or in choosing settings."""

_LAVAE_LIMITS = """\
- It finds {max_objects} objects at most, none with a side of more than
  {sprite_size} pixels.
- p(n) is that of the training scenes: `generate` takes another one as `prior_n`."""

_BASELINE_LIMITS = """\
- It has no objects: there is nothing to count, to locate or to edit.
- A run of the `laptop` variant ends long before it has converged, so its bounds are not
  what such a model can reach: `python -m experiments.paper` puts those of the paper's
  baseline beside them."""


class _Row(NamedTuple):
    """A row of the card's tables: its label, number format, and value in a split."""

    label: str
    form: str
    value: Callable[[SplitReport], float]
    error: Callable[[SplitReport], float] | None = None
    of_objects: bool = False  # the baseline has no objects


_ROWS = (
    _Row(
        "−log p(x) ≤, nats per image, {num_samples} importance samples",
        ".2f",
        lambda split: split.bounds[-1].negative_log_p.mean,
        lambda split: split.bounds[-1].negative_log_p.standard_error,
    ),
    _Row(
        "samples that carry the weight, (Σw)² / Σw²",
        ".1f",
        lambda split: split.bounds[-1].effective_samples,
    ),
    _Row(
        "floor of this family of models, nats",
        ".2f",
        lambda split: split.floor.floor if split.floor else math.nan,
    ),
    _Row(
        "objects counted right",
        ".2%",
        lambda split: split.truth.count_accuracy,
        of_objects=True,
    ),
    _Row(
        "counting connected components instead",
        ".2%",
        lambda split: split.truth.components_accuracy,
        of_objects=True,
    ),
    _Row(
        "location error, mean, px",
        ".2f",
        lambda split: split.truth.location.mean,
        of_objects=True,
    ),
    _Row(
        "foreground ARI, 2 and more objects",
        ".3f",
        lambda split: split.truth.fg_ari.mean,
        lambda split: split.truth.fg_ari.standard_error,
        of_objects=True,
    ),
)


def card(name: str, command: str, reports: Sequence[Report]) -> str:
    """Writes the card, as Markdown.

    Args:
        name: Name of the model.
        command: The command that trains it.
        reports: Report of the model, then those of other seeds, on the same splits.
    """
    report, config = reports[0], reports[0].config
    builder = data_builder(config["data"]["name"])
    model, num_valid = config["model"], config["data"]["num_valid"]
    height, width, channels = model["image_shape"]
    family, limits, test_splits = "LAVAE", _LAVAE_LIMITS, _LAVAE_TEST_SPLITS
    if is_baseline(config):
        family = "The baseline, a fully convolutional β-VAE"
        limits, test_splits = _BASELINE_LIMITS, _BASELINE_TEST_SPLITS
    return _CARD.format(
        name=name,
        family=family,
        data=config["data"]["name"],
        version=report.data_version,
        trained_on=_objects(builder, "train"),
        command=command,
        num_train=builder.splits["train"].num_examples - num_valid,
        num_valid=num_valid,
        folder=config["data"]["name"].partition("/")[0],
        num_steps=report.step,
        batch_size=config["batch_size"],
        seed=config["seed"],
        seeds=", ".join(f"seed {one.config['seed']}" for one in reports),
        versions=", ".join(f"{k} {v}" for k, v in report.versions.items()),
        num_images=max(split.num_images for split in report.splits),
        evaluation_seed=report.seed,
        test_splits=test_splits,
        tables="".join(
            _table(splits, _objects(builder, splits[0].name), reports)
            for splits in zip(*(one.splits for one in reports), strict=True)
        ),
        height=height,
        width=width,
        channels="one channel" if channels == 1 else f"{channels} channels",
        objects=limits.format(**model),
    )


def data_builder(name: str) -> scene_builder.SceneBuilder:
    """Returns the description of a data set, which need not be generated yet."""
    builder_class, variant = load.BUILDERS[name]
    return builder_class(config=variant)


def training_command(config: dict[str, Any], workdir: str) -> str:
    """Writes the command that trains a config: the nearest variant and its changes.

    Args:
        config: A whole config, as JSON holds it.
        workdir: The folder that the command names.

    Raises:
        cli.UserError: If the configs of this version have other values.
    """
    wanted = cli.flatten(run_config.from_json(config))
    nearest, overrides = None, None
    configs = _BASELINE_CONFIGS if is_baseline(config) else _LAVAE_CONFIGS
    for file, module in configs.items():
        for variant in base.VARIANTS:
            values = cli.flatten(module.get_config(variant))
            if unshared := sorted(values.keys() ^ wanted.keys()):
                raise cli.UserError(
                    f"the run is of another version: either its config or those of"
                    f" this version lack {', '.join(unshared)}. Train again."
                )
            different = {
                name: value for name, value in wanted.items() if value != values[name]
            }
            if overrides is None or len(different) < len(overrides):
                nearest = f"experiments/configs/{file}.py:{variant}"
                overrides = different
    return " \\\n  ".join(
        [
            f"python -m experiments.train --config={nearest}",
            *(shlex.quote(f"--config.{k}={v}") for k, v in overrides.items()),
            f"--workdir={workdir}",
        ]
    )


def _objects(builder, split):
    counts = builder.splits[split].counts
    few, many = min(counts), max(counts)
    return f"{many} objects" if few == many else f"{few} to {many} objects"


def _table(splits, objects, reports):
    """Writes the table of one split: a row per figure, a column per seed, the mean."""
    head = ["", *(f"seed {report.config['seed']}" for report in reports)]
    several = len(splits) > 1
    lines = [[*head, "mean ± sd"] if several else head]
    lines.append(["---", *["--:"] * (len(lines[0]) - 1)])
    for row in _ROWS:
        if row.of_objects and splits[0].truth is None:
            continue
        label = row.label.format(num_samples=splits[0].bounds[-1].num_samples)
        values = [row.value(split) for split in splits]
        cells = [_cell(row, split) for split in splits]
        if several:
            deviation = np.std(values, ddof=1)
            cells.append(_text(row.form, float(np.mean(values)), float(deviation)))
        lines.append([label, *cells])
    title = f"\n### {splits[0].name}: {objects}, {splits[0].num_images:,} images\n\n"
    return title + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(row, split):
    return _text(row.form, row.value(split), row.error and row.error(split))


def _text(form, value, error):
    if math.isnan(value):
        return "–"
    return f"{value:{form}}" + ("" if error is None else f" ± {error:{form}}")
