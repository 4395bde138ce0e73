"""Makes a released model of a trained and measured one.

python -m experiments.release --name=multi_dsprites --workdir=DIR[,DIR2,DIR3]

Writes the weights of the first run to `lavae_jax/weights/NAME`, with its config, the
report that `experiments.evaluate` left in DIR/evaluation, a model card, and the
checksums of all of them. Further runs are other seeds of the first; their reports go
there and into the card too. With --add all runs are further seeds of what is released
already. A run must have ended, and its report be one of its last step on whole test
splits.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import cli, model_card
from experiments.measure import measured_runs, report
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
        cli.UserError: If a run has not ended, is not of the same config, or has no
            report of its last step on enough images; nothing has been written then.
    """
    commands = [_command(workdir, name) for workdir in workdirs]
    measured = [measured_runs.read(workdir, min_images) for workdir in workdirs]
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
    tensors = {path: np.asarray(value) for path, value in tensors.items()}
    return _write(name, tensors, commands[0], measured, out)


def add_seeds(
    name: str,
    workdirs: Sequence[str | pathlib.Path],
    out: str | pathlib.Path | None = None,
    min_images: int = MIN_IMAGES,
) -> pathlib.Path:
    """Adds the reports of other seeds to a model that is released already.

    Args:
        name: Its name.
        workdirs: Runs of its config with other seeds than those it has.
        out: The folder of all released models; by default that of the library.
        min_images: A report on fewer images of a split is refused.

    Returns:
        The folder of the model, whose weights stay as they are.

    Raises:
        cli.UserError: As `release`, or if there is no such model.
    """
    folder = pathlib.Path(out or pretrained.FOLDER) / name
    with cli.user_errors(ValueError, OSError):
        contents = released.read(folder)
        reports = [
            report.from_plain(value)
            for value in (contents.report, *contents.other_reports)
        ]
    measured = [
        measured_runs.Measured(str(folder), runs.Run(one.config, one.step, {}), one)
        for one in reports
    ]
    measured += [measured_runs.read(workdir, min_images) for workdir in workdirs]
    command = model_card.training_command(contents.config, f"runs/{name}")
    return _write(name, contents.tensors, command, measured, out)


def _write(name, tensors, command, measured, out):
    """Writes the folder of the first run; the others are its other seeds."""
    measured_runs.check_seeds(measured)
    first, *others = (one.report for one in measured)
    contents = released.Released(
        tensors=tensors,
        config=first.config,
        report=report.plain(first),
        card=model_card.card(name, command, [first, *others]),
        other_reports=tuple(map(report.plain, others)),
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
    write = add_seeds if values.add else release
    folder = write(values.name, values.workdir, values.out, values.min_images)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB. Read its README.md, then commit the folder.")


def _define_flags():
    """The flags of the command; not on import, where others may have the same names."""
    flags.DEFINE_string("name", None, "Such as multi_dsprites, baseline_dsprites.")
    flags.DEFINE_list("workdir", None, "The run to release, then its other seeds.")
    flags.DEFINE_boolean(
        "add", False, "Whether the runs are further seeds of a model released already."
    )
    flags.DEFINE_string(
        "out", None, "The folder of all models, the library's if unset."
    )
    flags.DEFINE_integer("min_images", MIN_IMAGES, "Refuse reports on fewer per split.")
    flags.mark_flags_as_required(["name", "workdir"])


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
