"""Measures a trained model and shows what it sees.

python -m experiments.evaluate --workdir=DIR

For each test split of the data set the model was trained on: bounds on -log p(x) with
K = 1, 10 and 100 importance samples, counts, places and segmentations against the
truth, and counting by connected components to compare with. The baseline has no
objects: of it, bounds and pictures alone. It prints a table and writes `report.json`
and pictures to DIR/evaluation. With --images=own.npz it looks at images of your own,
for which no truth is known, and writes to DIR/evaluation_own_images.
"""

import importlib.metadata
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

import lavae_jax
from datasets import load
from experiments import build, checkpoints, cli, measure, own_images, report, views
from lavae_jax import plotting
from lavae_jax.inference import Model

_NUM_PICTURED = 8
_NUM_SAMPLES = 36
_PACKAGES = ("jax", "jaxlib", "flax", "distrax", "numpy")


def evaluate(
    config: ConfigDict,
    model: Model,
    variables: dict[str, Any],
    *,
    step: int = 0,
    splits: Sequence[str] | None = None,
    images_path: str | pathlib.Path | None = None,
    settings: measure.Settings | None = None,
    out: str | pathlib.Path | None = None,
) -> report.Report:
    """Evaluates a model on the test splits of its data set, or on the user's images.

    The data set is generated first where it does not exist. The same settings give the
    same report on the same kind of device.

    Args:
      config: The config the model was built from; `data` names the data set.
      model: The module, as `build.build_model(config)` gives it.
      variables: Its `params` and `batch_stats`.
      step: Training steps made, for the report.
      splits: Names of splits; by default all but `train`.
      images_path: Images of one's own instead, see `own_images.load_images`.
      settings: How many images and samples, and the seed; by default all and 100.
      out: A folder for `report.json`, a picture of samples from the prior, and one of
        reconstructions (and one of counts, where they are known) per split; None
        writes nothing.

    Returns:
      The report.

    Raises:
      cli.UserError: If a setting, a split's name or the images are not valid, or the
        data or the folder can't be made, before any long work.
    """
    settings = settings or measure.Settings()
    with cli.user_errors(ValueError, OSError):
        measure.check_settings(settings)
        sets = _image_sets(config, splits, images_path, settings.num_images)
        if out is not None:
            out = pathlib.Path(out)
            out.mkdir(parents=True, exist_ok=True)
    variables = jax.device_put(variables)
    if out is not None:
        _draw_samples(model, variables, settings.seed, out)
    result = report.Report(
        dataset=config.data.name if images_path is None else str(images_path),
        data_version=_data_version(config.data.name) if images_path is None else None,
        step=step,
        seed=settings.seed,
        epsilon=model.epsilon,
        config=config.to_dict(),
        versions=versions(),
        splits=tuple(_look_at(sets, model, variables, settings, out)),
    )
    if out is not None:
        report.write(result, out / "report.json")
    return result


def _image_sets(config, splits, images_path, num_images):
    """What to look at: splits of the data set, or the user's images."""
    if images_path is None:
        return measure.split_sets(config.data, splits, num_images)
    images = own_images.load_images(images_path, tuple(config.model.image_shape))
    return [measure.own_set(images, num_images)]


def _look_at(sets, model, variables, settings, out):
    """The part of the report on each set of images, its pictures drawn."""
    log_p_n = measure.learned_log_p_n(model, variables)
    for image_set in sets:
        inferred = measure.infer(model, variables, image_set, settings)
        split_report = measure.compare(image_set, inferred, log_p_n)
        if out is not None:
            _draw(model, variables, image_set, split_report, out)
        yield split_report


def main() -> None:
    """Evaluates the latest checkpoint of the workdir named on the command line."""
    values = flags.FLAGS
    if values.images and values.splits:
        raise cli.UserError("--images and --splits exclude each other: pass only one.")
    settings = measure.Settings(
        num_images=values.num_images,
        num_samples=values.num_samples,
        batch_size=values.batch_size,
        seed=values.seed,
    )
    trained = checkpoints.restore_variables(values.workdir)
    config = trained.config
    with config.unlocked():
        config.data.data_dir = values.data_dir or config.data.data_dir
        config.data.manual_dir = values.manual_dir or config.data.manual_dir
    # A look at other images must not replace the report on the test splits.
    folder = "evaluation_own_images" if values.images else "evaluation"
    out = values.out or pathlib.Path(values.workdir) / folder
    result = evaluate(
        config,
        build.build_model(config),
        trained.variables,
        step=trained.step,
        splits=values.splits or None,
        images_path=values.images,
        settings=settings,
        out=out,
    )
    console = Console()
    report.print_tables(result, console)
    console.print(f"The report and the pictures are in {out}.")


def _draw_samples(model, variables, seed, folder):
    """The picture of scenes drawn from the prior, which no image has a part in."""
    key = jax.random.key(seed)
    samples = lavae_jax.generate(model, variables, key, _NUM_SAMPLES)
    plotting.save(plotting.samples_grid(samples), folder / "samples.png")


def _draw(model, variables, image_set, split_report, folder):
    """The pictures of one set of images: reconstructions, and counts if known."""
    images = image_set.images
    # Black images have little to show; they come last.
    black = ~images.any(axis=(1, 2, 3))
    shown = images[np.argsort(black, kind="stable")[:_NUM_PICTURED]]
    figure = views.look(model, variables, shown).figure(shown)
    name = image_set.name.replace(" ", "_")
    plotting.save(figure, folder / f"{name}_reconstructions.png")
    if split_report.truth is not None:
        figure = plotting.confusion(split_report.truth.confusion)
        plotting.save(figure, folder / f"{name}_confusion.png")


def versions() -> dict[str, str]:
    """Versions of what the figures depend on, and the device."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    found["lavae_jax"] = lavae_jax.__version__
    return found | {"device": jax.devices()[0].device_kind}


def _data_version(name):
    """The version of a data set: another one holds other scenes."""
    builder_class, _ = load.BUILDERS[name]
    return str(builder_class.VERSION)


def _define_flags():
    """The flags of the command; not on import, where others may have the same names."""
    flags.DEFINE_string("workdir", None, "The workdir of a run of experiments.train.")
    flags.DEFINE_list("splits", [], "Splits to look at; all but train by default.")
    flags.DEFINE_string("images", None, "Images of your own: .npz, .npy, .png, folder.")
    flags.DEFINE_integer("num_images", None, "At most this many, the first, per split.")
    flags.DEFINE_integer("num_samples", 100, "Importance samples per image.")
    flags.DEFINE_integer("batch_size", 100, "Images at a time; changes no figure.")
    flags.DEFINE_integer("seed", 0, "Gives the importance samples.")
    flags.DEFINE_string("data_dir", None, "Where data sets are, if not as in training.")
    flags.DEFINE_string("manual_dir", None, "Where MNIST's files are, likewise.")
    flags.DEFINE_string(
        "out", None, "Where to write, a folder in the workdir by default."
    )
    flags.mark_flag_as_required("workdir")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
