"""Releases a trained and measured model.

python -m experiments.release --workdir=DIR[,DIR2,DIR3]

writes the weights of the first run to `lavae_jax/weights/NAME`, where NAME follows from
its config, with that config, the report that `experiments.evaluate` left in
DIR/evaluation, a model card, and the checksums of all of them. Further runs are other
seeds of the first; their reports go into the folder and the card too. Every run must
have ended, and its report must be one of its last step on whole test splits.
"""

import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from datasets import load
from experiments import cli
from experiments.configs import base
from experiments.measure import report
from experiments.measure.report import Report
from experiments.own import data as own_data
from experiments.run import workdir as run_workdir
from lavae_jax import pretrained, released, runs
from lavae_jax.config import is_baseline
from lavae_jax.metrics import Estimate

MIN_IMAGES = 10_000

_CARD = """\
# {name}

This is {family}, trained without labels on `{data}`,
version {version}, whose images have {trained_on}.

```python
model, variables = lavae_jax.load_pretrained("{name}")
```

## Training

```bash
{command}
```

- It was trained on {num_train:,} scenes of the training split. The last {num_valid:,}
  are held out to choose settings. `datasets/{folder}/README.md` says how they are made.
- The run made {num_steps:,} steps of {batch_size} images.
- These are the weights of seed {seed}. All seeds measured with these settings: {seeds}.
- It was measured with {versions}.
{notes}
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

- Images are {height}×{width} pixels with {channels}{pixels}
{objects}
- −log p(x) is an upper bound. It is loose where few importance samples carry all the
  weight.
"""

_LAVAE_TEST_SPLITS = """\
No test split was used in training, but the limits of h_app's outputs
(`model.mean_limit`, `model.logvar_limit`) were set after scenes of test_7 had been
seen to fail with an earlier model of multi-MNIST-1k: `CHANGELOG.md` says what they
changed. `experiments/RESULTS.md` says where test
splits were measured while other settings still changed."""

_UNUSED_TEST_SPLITS = "No test split was used in training or in choosing settings."

_BINARY_PIXELS = """\
, each 0 or 1: sprites on black that
  do not overlap."""

_OTHER_PIXELS = """\
 from 0 to 1: sprites of any
  colours, which may hide each other, before a smooth background.
- −log p(x) is that of a density of the pixels, so that it may be negative; it can't be
  compared with that of binary pixels."""

_LAVAE_LIMITS = """\
- It finds {max_objects} objects at most, none with a side of more than
  {sprite_size} pixels.
- p(n) is that of the training scenes: `generate` takes another one as `prior_n`."""

_BASELINE_LIMITS = """\
- It has no objects: there is nothing to count, to locate or to edit.
- A run of the `laptop` variant ends long before it has converged."""


def release(
    workdirs: Sequence[str | pathlib.Path],
    out: str | pathlib.Path | None = None,
    min_images: int = MIN_IMAGES,
    notes: Sequence[str] = (),
) -> pathlib.Path:
    """Releases the model of the first run into a folder of `out`, which is returned.

    The card has the notes, sentences on the training.

    Raises:
        cli.UserError: if a run has not ended, has another config, or has no report of
            its last step on enough images; then nothing has been written.
    """
    with cli.user_errors(ValueError, OSError):
        config = run_workdir.without_folders(runs.read_config(workdirs[0]))
    name = released_name(config)
    # This comes first, as it refuses runs of another version of this project.
    command = training_command(config, f"runs/{name}")
    measured = [run_workdir.read_measured(workdir, min_images) for workdir in workdirs]
    run_workdir.check_seeds(measured)
    first = measured[0]
    tensors = pretrained.flatten(first.run.variables)
    with cli.user_errors(ValueError):
        pretrained.assemble(first.run.config, tensors, first.workdir)
    reports = [seed_run.report for seed_run in measured]
    contents = released.Released(
        tensors={path: np.asarray(value) for path, value in tensors.items()},
        config=first.run.config,
        report=report.plain(reports[0]),
        card=card(name, command, reports, notes),
        other_reports=tuple(map(report.plain, reports[1:])),
    )
    folder = pathlib.Path(out or pretrained.FOLDER) / name
    with cli.user_errors(OSError):
        released.write(folder, contents)
    return folder


def released_name(config: dict[str, Any]) -> str:
    """Returns the name of a run's model: multi_mnist_1k, baseline_mnist_1k."""
    name = config["data"]["name"].replace("/", "_")
    return f"baseline_{name.removeprefix('multi_')}" if is_baseline(config) else name


def card(
    name: str, command: str, reports: Sequence[Report], notes: Sequence[str] = ()
) -> str:
    """Writes the card, as Markdown; the first report is that of the released seed."""
    report, config = reports[0], reports[0].config
    splits = load.splits(config["data"]["name"])
    model, num_valid = config["model"], config["data"]["num_valid"]
    height, width, channels = model["image_shape"]
    family, limits, test_splits = "LAVAE", _LAVAE_LIMITS, _UNUSED_TEST_SPLITS
    is_binary = own_data.is_binary(config)
    if is_baseline(config):
        family = "the baseline, a fully convolutional β-VAE"
        limits = _BASELINE_LIMITS
    elif "test_7" in splits and is_binary:
        test_splits = _LAVAE_TEST_SPLITS
    return _CARD.format(
        name=name,
        family=family,
        data=config["data"]["name"],
        version=report.data_version,
        trained_on=_objects(splits["train"]),
        command=command,
        num_train=splits["train"].num_examples - num_valid,
        num_valid=num_valid,
        folder=config["data"]["name"].partition("/")[0],
        num_steps=report.step,
        batch_size=config["batch_size"],
        seed=config["seed"],
        seeds=", ".join(str(of_seed.config["seed"]) for of_seed in reports),
        versions=", ".join(f"{k} {v}" for k, v in report.versions.items()),
        notes="".join(f"- {note}\n" for note in notes),
        num_images=max(split.num_images for split in report.splits),
        evaluation_seed=report.seed,
        test_splits=test_splits,
        tables="".join(
            _table(same, _objects(splits[same[0].name]), reports)
            for same in zip(*(of_seed.splits for of_seed in reports), strict=True)
        ),
        height=height,
        width=width,
        channels="one channel" if channels == 1 else f"{channels} channels",
        pixels=_BINARY_PIXELS if is_binary else _OTHER_PIXELS,
        objects=limits.format(**model),
    )


def training_command(config: dict[str, Any], workdir: str) -> str:
    """Writes the command that trains a config: the nearest variant and overrides."""
    wanted = cli.flatten(run_workdir.from_json(config))
    nearest, overrides = None, None
    for name, values in _variants(is_baseline(config)):
        wanted = run_workdir.with_later_values(wanted, values)
        if unshared := sorted(values.keys() ^ wanted.keys()):
            raise cli.UserError(
                f"only one of the run's config and this version's has"
                f" {', '.join(unshared)}: release it with the version that trained it."
            )
        different = {
            key: value for key, value in wanted.items() if value != values[key]
        }
        if overrides is None or len(different) < len(overrides):
            nearest, overrides = name, different
    return " \\\n  ".join(
        [
            f"python -m experiments.train --config=experiments/configs/{nearest}",
            *(shlex.quote(f"--config.{k}={v}") for k, v in overrides.items()),
            f"--workdir={workdir}",
        ]
    )


def _variants(of_baseline):
    """Yields each config of a model that may be released, by name, and its values."""
    folder = pathlib.Path(__file__).parent / "configs"
    data_sets = ["dsprites", "mnist_1k", "mnist_10k"]
    if not of_baseline:
        data_sets += ["coloured", "tetrominoes"]
    for data in data_sets:
        for variant in base.VARIANTS:
            name = f"{data}.py:{variant}"
            name = f"baseline.py:{data}:{variant}" if of_baseline else name
            yield name, cli.flatten(cli.load_config(f"{folder}/{name}"))


def _objects(split):
    few, many = min(split.counts), max(split.counts)
    return f"{many} objects" if few == many else f"{few} to {many} objects"


def _table(splits, objects, reports):
    """Writes the table of one split: a row per figure, a column per seed, the mean."""
    head = ["", *(f"seed {one.config['seed']}" for one in reports)]
    several = len(splits) > 1
    rows = [[*head, "mean ± sd"] if several else head]
    figures = [_figures(split) for split in splits]
    for label, (form, _) in figures[0].items():
        values = [of_seed[label][1] for of_seed in figures]
        cells = [report.text(value, form) for value in values]
        if several:
            means = [x.mean if isinstance(x, Estimate) else x for x in values]
            cells.append(report.over_seeds(means, form))
        rows.append([label, *cells])
    title = f"\n### {splits[0].name}: {objects}, {splits[0].num_images:,} images\n\n"
    return title + report.markdown_table(rows)


def _figures(split):
    """Returns the number format and the value of each figure, by its label."""
    bound, truth = split.bounds[-1], split.truth
    cost = f"−log p(x) ≤, nats per image, {bound.num_samples} importance samples"
    figures = {
        cost: (".2f", bound.negative_log_p),
        "samples that carry the weight, (Σw)² / Σw²": (".1f", bound.effective_samples),
    }
    if split.object_bound is not None:
        by_object = split.object_bound
        sizes = f"{by_object.num_samples} x {by_object.num_candidates}"
        figures[f"the same by {sizes} draws, object by object"] = (
            ".2f",
            by_object.negative_log_p,
        )
    if split.floor is not None:
        figures["floor of this family of models, nats"] = (".2f", split.floor.floor)
    if truth is not None:
        segments = truth.segments
        figures |= {
            "objects counted right": (".2%", truth.count_accuracy),
            "counting connected components instead": (".2%", truth.components_accuracy),
            "objects counted right where none touch": (".2%", segments.apart_accuracy),
            "objects found (recall), IoU ≥ 0.5": (".2%", segments.recall),
            "inferred objects that are such (precision)": (".2%", segments.precision),
            "location error, mean, px": (".2f", truth.location.mean),
            "foreground ARI, 2 and more objects": (".3f", segments.fg_ari),
        }
    return {label: pair for label, pair in figures.items() if pair[1] is not None}


def main() -> None:
    """Releases the runs that the command line names."""
    values = flags.FLAGS
    folder = release(values.workdir, values.out, values.min_images, values.note)
    print(f"{folder} is complete. Read its README.md, then commit the folder.")


def _define_flags():
    flags.DEFINE_list("workdir", None, "Release the first run; others are its seeds.")
    flags.DEFINE_string("out", None, "Write here (default: into the library).")
    flags.DEFINE_integer("min_images", MIN_IMAGES, "Refuse reports on fewer images.")
    flags.DEFINE_multi_string("note", [], "Add this sentence on the run to its card.")
    flags.mark_flag_as_required("workdir")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
