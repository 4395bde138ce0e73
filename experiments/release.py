"""Makes a released model of a trained and measured one.

python -m experiments.release --name=multi_dsprites --workdir=DIR[,DIR2,DIR3]

Writes the weights of the first run to `lavae_jax/weights/NAME`, with its config, the
report that `experiments.evaluate` left in DIR/evaluation, a model card, and the
checksums of all of them. Further runs are other seeds of the first; their reports go
there and into the card too. A run must have ended, and its report be one of its last
step on whole test splits.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import cli, measured_runs, model_card, report
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
      name: Its name, see `released_name`.
      workdirs: The run to release, then runs of the same config with other seeds.
      out: The folder of all released models; by default that of the library.
      min_images: A report on fewer images of a split is refused.

    Returns:
      The folder of this one.

    Raises:
      cli.UserError: If a run has not ended, is not of the same config, or has no report
        of its last step on enough images; nothing has been written then.
    """
    commands = [_command(workdir, name) for workdir in workdirs]
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
    contents = released.Released(
        tensors={path: np.asarray(value) for path, value in tensors.items()},
        config=first.run.config,
        report=report.plain(first.report),
        card=model_card.card(name, commands[0], [one.report for one in measured]),
        other_reports=tuple(report.plain(one.report) for one in measured[1:]),
    )
    folder = pathlib.Path(out or pretrained.FOLDER) / name
    with cli.user_errors(OSError):
        released.write(folder, contents)
    return folder


def released_name(config: dict[str, Any]) -> str:
    """What a run's model is released as: multi_mnist_1k, baseline_mnist_1k.

    Args:
      config: The whole config of the run, as JSON holds it.
    """
    name = config["data"]["name"].replace("/", "_")
    return f"baseline_{name.removeprefix('multi_')}" if is_baseline(config) else name


def _command(workdir, name):
    """The command that trains a run, which must be one of this version."""
    with cli.user_errors(ValueError, OSError):
        config = runs.read_config(workdir)
    return model_card.training_command(
        measured_runs.without_folders(config), f"runs/{name}"
    )


def main() -> None:
    """Releases the runs named on the command line."""
    values = flags.FLAGS
    folder = release(values.name, values.workdir, values.out, values.min_images)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB. Read its README.md, then commit the folder.")


def _define_flags():
    """The flags of the command; not on import, where others may have the same names."""
    flags.DEFINE_string("name", None, "Such as multi_dsprites, baseline_dsprites.")
    flags.DEFINE_list("workdir", None, "The run to release, then its other seeds.")
    flags.DEFINE_string(
        "out", None, "The folder of all models, the library's if unset."
    )
    flags.DEFINE_integer("min_images", MIN_IMAGES, "Refuse reports on fewer per split.")
    flags.mark_flags_as_required(["name", "workdir"])


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
