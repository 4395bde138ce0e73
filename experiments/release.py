"""Releases a trained and measured model.

python -m experiments.release --name=multi_dsprites --workdir=DIR[,DIR2,DIR3]

writes the weights of the first run to `lavae_jax/weights/NAME`, with its config, the
report that `experiments.evaluate` left in DIR/evaluation, a model card, and the
checksums of all of them. Further runs are other seeds of the first; their reports go
into the folder and the card too. Every run must have ended, and its report must be one
of its last step on whole test splits.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from experiments.measure import measured_runs, model_card, report
from lavae_jax import pretrained, released, runs
from lavae_jax.config import is_baseline

MIN_IMAGES = 10_000


def release(
    name: str,
    workdirs: Sequence[str | pathlib.Path],
    out: str | pathlib.Path | None = None,
    min_images: int = MIN_IMAGES,
) -> pathlib.Path:
    """Releases a model.

    Args:
        name: Name of the model, see `released_name`.
        workdirs: The run to release, then runs of the same config with other seeds.
        out: The folder of all released models; by default that of the library.
        min_images: A report on fewer images of a split is refused.

    Returns:
        The folder of this model.

    Raises:
        cli.UserError: If a run has not ended, has another config, or has no report of
            its last step on enough images; then nothing has been written.
    """
    with cli.user_errors(ValueError, OSError):
        config = measured_runs.without_folders(runs.read_config(workdirs[0]))
    # First of all, as it refuses runs of another version of this project.
    command = model_card.training_command(config, f"runs/{name}")
    measured = [measured_runs.read(workdir, min_images) for workdir in workdirs]
    measured_runs.check_seeds(measured)
    first = measured[0]
    wanted = released_name(first.run.config)
    if name != wanted:
        raise cli.UserError(
            f"--name: this model of {first.run.config['data']['name']} is released as"
            f" {wanted}: got {name}."
        )
    tensors = pretrained.flatten(first.run.variables)
    with cli.user_errors(ValueError):
        pretrained.assemble(first.run.config, tensors, first.workdir)
    reports = [one.report for one in measured]
    contents = released.Released(
        tensors={path: np.asarray(value) for path, value in tensors.items()},
        config=first.run.config,
        report=report.plain(reports[0]),
        card=model_card.card(name, command, reports),
        other_reports=tuple(map(report.plain, reports[1:])),
    )
    folder = pathlib.Path(out or pretrained.FOLDER) / name
    with cli.user_errors(OSError):
        released.write(folder, contents)
    return folder


def released_name(config: dict[str, Any]) -> str:
    """Returns the name of a run's model: multi_mnist_1k, baseline_mnist_1k.

    Args:
        config: The whole config of the run, as JSON holds it.
    """
    name = config["data"]["name"].replace("/", "_")
    return f"baseline_{name.removeprefix('multi_')}" if is_baseline(config) else name


def main() -> None:
    """Releases the runs that the command line names."""
    values = flags.FLAGS
    folder = release(values.name, values.workdir, values.out, values.min_images)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB. Read its README.md, then commit the folder.")


def _define_flags():
    """Defines the command's flags; not on import, as other commands share names."""
    flags.DEFINE_string("name", None, "Name, such as multi_dsprites.")
    flags.DEFINE_list("workdir", None, "The run to release, then its other seeds.")
    flags.DEFINE_string("out", None, "Folder of all models; by default the library's.")
    flags.DEFINE_integer("min_images", MIN_IMAGES, "Refuse reports on fewer per split.")
    flags.mark_flags_as_required(["name", "workdir"])


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
