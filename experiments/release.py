"""Makes a released model of a trained and measured one.

python -m experiments.release --name=multi_dsprites --workdir=DIR[,DIR2,DIR3]

Writes the weights of the first run to `lavae_jax/weights/NAME`, with its config, the
report that `experiments.evaluate` left in DIR/evaluation, a model card, and the
checksums of all of them. Further runs are other seeds of the first; their reports go
into the card. A run must have ended, and its report be one of its last step on whole
test splits.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from experiments import checkpoints, cli, model_card, own_data, report
from lavae_jax import pretrained, released, runs
from lavae_jax.config import is_baseline

MIN_IMAGES = 10_000
NUM_SAMPLES = 100


class _Measured(NamedTuple):
    """A run, the command that trains it, and its report."""

    workdir: str
    run: runs.Run
    command: str
    report: report.Report


def release(
    name: str,
    workdirs: Sequence[str | pathlib.Path],
    out: str | pathlib.Path | None = None,
    min_images: int = MIN_IMAGES,
) -> pathlib.Path:
    """Releases a model.

    Args:
      name: Its name: that of its data set, with _ for /.
      workdirs: The run to release, then runs of the same config with other seeds.
      out: The folder of all released models; by default that of the library.
      min_images: A report on fewer images of a split is refused.

    Returns:
      The folder of this one.

    Raises:
      cli.UserError: If a run has not ended, is not of the same config, or has no report
        of its last step on enough images; nothing has been written then.
    """
    measured = [_read(str(workdir), name, min_images) for workdir in workdirs]
    _check_seeds(measured)
    first = measured[0]
    data = first.run.config["data"]["name"]
    if name != data.replace("/", "_"):
        raise cli.UserError(
            f"--name: a model of {data} is released as {data.replace('/', '_')}: got"
            f" {name}."
        )
    tensors = pretrained.flatten(first.run.variables)
    with cli.user_errors(ValueError):
        pretrained.assemble(first.run.config, tensors, first.workdir)
    contents = released.Released(
        tensors={path: np.asarray(value) for path, value in tensors.items()},
        config=first.run.config,
        report=report.plain(first.report),
        card=model_card.card(name, first.command, [one.report for one in measured]),
    )
    folder = pathlib.Path(out or pretrained.FOLDER) / name
    with cli.user_errors(OSError):
        released.write(folder, contents)
    return folder


def _read(workdir, name, min_images):
    """A run that has ended, and the report of its last step."""
    with cli.user_errors(ValueError, OSError):
        run = runs.read(workdir)
    if is_baseline(run.config):
        raise cli.UserError(
            f"{workdir} is a run of the baseline: only LAVAE is released."
        )
    if own_data.is_own(run.config):
        raise cli.UserError(
            f"{workdir} is a run on images of its own: only models of the named data"
            " sets are released."
        )
    run = run._replace(config=_without_folders(run.config))
    command = model_card.training_command(run.config, f"runs/{name}")
    num_steps = run.config["num_steps"]
    if run.step != num_steps:
        raise cli.UserError(
            f"{workdir} has not ended: its newest checkpoint is of step {run.step} of"
            f" {num_steps}. Start its training command again, and it goes on."
        )
    path = pathlib.Path(workdir) / "evaluation" / "report.json"
    measure = f"Measure it: python -m experiments.evaluate --workdir={workdir}"
    if not path.exists():
        raise cli.UserError(f"{path} does not exist. {measure}")
    with cli.user_errors(ValueError, OSError):
        found = report.read(path)
    if problem := _problem(run, found, min_images):
        raise cli.UserError(f"{path} {problem}. {measure}")
    found = found._replace(config=run.config)
    return _Measured(workdir, run, command, found)


def _without_folders(config):
    """The config without the places of the data on this machine."""
    data = config.get("data", {})
    return {**config, "data": {**data, "data_dir": "", "manual_dir": ""}}


def _problem(run, found, min_images):
    """Why a report is not one to release this run with, or None."""
    stored, seen = map(checkpoints.from_json, (run.config, found.config))
    if found.step != run.step:
        return f"is of step {found.step}, and the run's newest of step {run.step}"
    if lines := checkpoints.differences(seen, stored):
        return "\n".join(
            ["is of another config (there: the report's, here: the run's):", *lines]
        )
    splits = model_card.data_builder(stored.data.name).splits
    wanted = [name for name in splits if name != "train"]
    if (names := [split.name for split in found.splits]) != wanted:
        return f"has the splits {', '.join(names)}, not {', '.join(wanted)}"
    for split in found.splits:
        if split.num_images < min_images:
            return f"is on {split.num_images} images of {split.name}, not {min_images}"
        if (num_samples := split.bounds[-1].num_samples) != NUM_SAMPLES:
            return f"has {num_samples} importance samples, not {NUM_SAMPLES}"
    return None


def _check_seeds(measured):
    """Refuses runs that are not seeds of one config, measured on the same images."""
    first, *others = measured
    for other in others:
        there, here = (_but_for_the_seed(one) for one in (first, other))
        if lines := checkpoints.differences(there, here):
            raise cli.UserError(
                "\n".join(
                    [
                        f"{other.workdir} (here) is not {first.workdir} (there) with"
                        " another seed:",
                        *lines,
                    ]
                )
            )
    seeds = [one.run.config["seed"] for one in measured]
    if len(set(seeds)) < len(seeds):
        raise cli.UserError(
            f"--workdir: every run needs a seed of its own, got the seeds"
            f" {', '.join(map(str, seeds))}."
        )


def _but_for_the_seed(measured):
    """All that runs must share to be compared."""
    shared = checkpoints.from_json({**measured.run.config, "seed": 0})
    shared.steps = measured.run.step
    shared.data_version = measured.report.data_version
    shared.images = tuple(split.num_images for split in measured.report.splits)
    return shared


def main() -> None:
    """Releases the runs named on the command line."""
    values = flags.FLAGS
    folder = release(values.name, values.workdir, values.out, values.min_images)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB. Read its README.md, then commit the folder.")


def _define_flags():
    """The flags of the command; not on import, where others may have the same names."""
    flags.DEFINE_string("name", None, "The model's name, such as multi_dsprites.")
    flags.DEFINE_list("workdir", None, "The run to release, then its other seeds.")
    flags.DEFINE_string(
        "out", None, "The folder of all models, the library's if unset."
    )
    flags.DEFINE_integer("min_images", MIN_IMAGES, "Refuse reports on fewer per split.")
    flags.mark_flags_as_required(["name", "workdir"])


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
