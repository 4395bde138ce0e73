"""Measures a trained model and draws what it infers.

python -m experiments.evaluate --workdir=DIR
python -m experiments.evaluate --weights=multi_dsprites

The model is the newest of a run, or a released one. For each test split of the data set
it was trained on, this measures bounds on -log p(x) with K = 1, 10 and 100 importance
samples, compares counts, locations and segmentations with the truth, and counts
connected components for comparison. The baseline has no objects, so it gets bounds and
pictures alone. The command prints a table and writes `report.json` and pictures to
DIR/evaluation, or to runs/released/NAME/evaluation for a released model.

With --images=own.npz the model is applied to your own images, and the results go to the
folder evaluation_own_images. A model that was trained on your own images is measured on
the held-out ones. Where the file holds `masks`, `positions` or `n` beside the `images`,
they are the truth.
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
from experiments import cli
from experiments.measure import measure, report
from experiments.own import data as own_data
from experiments.own import images as own_images
from experiments.run import build
from experiments.run import workdir as run_workdir
from lavae_jax import plotting, pretrained, released, runs
from lavae_jax.inference import Model

_NUM_SAMPLES = 36
_PROBABLE_BYTES = 2**20  # likely size of a report with its pictures
_RELEASED = pathlib.Path("runs/released")
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
        config: the config the model was built from; `data` names the data set.
        model: the module, as `build.build_model(config)` gives it.
        variables: its `params` and `batch_stats`.
        step: how many training steps were made, for the report.
        splits: names of the splits to measure; by default all test splits.
        images_path: images to use instead of the splits.
        settings: how many images and samples, and the seed; by default all and 100.
        out: a folder for the report and the pictures; None writes nothing.
    """
    settings = settings or measure.Settings()
    if out is not None:
        out = pathlib.Path(out)
        cli.make_writable(out, _PROBABLE_BYTES)
    with cli.user_errors(ValueError, OSError):
        sets = _image_sets(config, splits, images_path, settings.num_images)
    variables = jax.device_put(variables)
    dataset, data_version = _data_name(config, images_path)
    result = report.Report(
        dataset=dataset,
        data_version=data_version,
        step=step,
        seed=settings.seed,
        noise=float(model.bind(variables).noise()),
        config=config.to_dict(),
        versions=versions(),
        splits=tuple(_measure_sets(sets, model, variables, settings, out)),
    )
    if out is not None:
        with cli.user_errors(OSError):
            report.write(result, out / "report.json")
            key = jax.random.key(settings.seed)
            samples = lavae_jax.generate(model, variables, key, _NUM_SAMPLES)
            plotting.save(plotting.samples_grid(samples), out / "samples.png")
    return result


def _image_sets(config, splits, images_path, num_images):
    """Returns the images to measure: splits of the data set, or the user's images."""
    own = own_data.is_own(config)
    if images_path is not None:
        shape = tuple(config.model.image_shape)
        values = own_data.values_of(config)
        images = own_images.load_images(images_path, shape, values)
        truth = own_images.load_truth(images_path, images.shape)
        return [_own_set("own images", images, truth, num_images)]
    if own:
        return [_held_out_set(config, splits, num_images)]
    sets = measure.split_sets(config.data, splits, num_images)
    if config.model.get("location_prior") == "learned":
        # The data sets' floors of the model are those of a uniform prior.
        sets = (one._replace(floor=_entropy_alone(one.floor)) for one in sets)
    return sets


def _entropy_alone(floor):
    """Returns a floor that any model obeys, whatever its prior of locations."""
    return floor and floor._replace(floor=floor.entropy)


def _held_out_set(config, splits, num_images):
    name = "held_out"
    if splits is not None and list(splits) != [name]:
        raise ValueError(f"your own images have one split, {name}: got {splits}.")
    images = own_data.read(config).images
    truth = own_data.load_truth(config, images)
    indices = own_data.held_out_indices(config, len(images))
    return _own_set(name, images[indices], truth and truth.take(indices), num_images)


def _own_set(name, images, truth, num_images):
    """Returns the first images of the user's, with what is known about them."""
    first = np.arange(len(images))[:num_images]
    true_scenes = truth and measure.TrueScenes(*truth.take(first))
    return measure.ImageSet(name, images[first], true_scenes)


def _measure_sets(sets, model, variables, settings, out):
    """Measures each set of images and draws its pictures."""
    log_p_n = measure.learned_log_p_n(model, variables)
    sets = iter(sets)
    while True:
        # The next set is read here, from files that may be damaged.
        with cli.user_errors(ValueError, OSError):
            image_set = next(sets, None)
        if image_set is None:
            return
        inferred = measure.infer(model, variables, image_set, settings)
        num_candidates = settings.num_candidates
        split_report = measure.compare(image_set, inferred, log_p_n, num_candidates)
        if out is not None:
            with cli.user_errors(OSError):
                _draw(model, variables, image_set, split_report, out)
        yield split_report


def _load(workdir, weights):
    """Loads the named model, its run, and the folder that its results go to."""
    if bool(workdir) == bool(weights):
        raise cli.UserError(
            "give either --workdir, the folder of a run, or --weights, a released"
            f" model: {', '.join(pretrained.names())}."
        )
    with cli.user_errors(ValueError, OSError):
        if workdir:
            model, run = pretrained.read_run(workdir)
            if run.warning:
                cli.warn(run.warning)
            return model, run, pathlib.Path(workdir)
        model, variables = pretrained.load_pretrained(weights)
        contents = released.read(pretrained.FOLDER / weights)
    run = runs.Run(contents.config, contents.report["step"], variables)
    return model, run, _RELEASED / weights


def main() -> None:
    """Evaluates the model that the command line names."""
    values = flags.FLAGS
    if values.images and values.splits:
        raise cli.UserError("--images and --splits exclude each other: pass only one.")
    settings = measure.Settings(
        values.num_images, values.num_samples, values.num_candidates, seed=values.seed
    )
    model, run, folder = _load(values.workdir, values.weights)
    config = run_workdir.from_json(run.config)
    with config.unlocked():
        if own_data.is_own(config):
            config.data.path = values.data_dir or config.data.path
        else:
            config.data.data_dir = values.data_dir or config.data.data_dir
            config.data.manual_dir = values.manual_dir or config.data.manual_dir
    # A report on other images must not replace that on the test splits.
    name = "evaluation_own_images" if values.images else "evaluation"
    out = values.out or folder / name
    result = evaluate(
        config,
        model,
        run.variables,
        step=run.step,
        splits=values.splits or None,
        images_path=values.images,
        settings=settings,
        out=out,
    )
    console = Console()
    report.print_tables(result, console)
    console.print(f"The report and the pictures are in {out}.")


def _draw(model, variables, image_set, split_report, folder):
    """Draws the pictures of one set: reconstructions, and counts if known."""
    figure = build.draw(model, variables, build.first_lit(image_set.images))
    name = image_set.name.replace(" ", "_")
    plotting.save(figure, folder / f"{name}_reconstructions.png")
    if split_report.truth is not None:
        figure = plotting.confusion(split_report.truth.confusion)
        plotting.save(figure, folder / f"{name}_confusion.png")


def versions() -> dict[str, str]:
    """Returns the versions of packages that results depend on, and the device."""
    installed = {name: importlib.metadata.version(name) for name in _PACKAGES}
    installed["lavae_jax"] = lavae_jax.__version__
    return installed | {"device": jax.devices()[0].device_kind}


def _data_name(config, images_path):
    """Returns a data set's name and version; another version has other scenes."""
    if images_path is not None:
        return str(images_path), None
    if own_data.is_own(config):
        return config.data.path, config.data.fingerprint
    builder_class, _ = load.BUILDERS[config.data.name]
    return config.data.name, str(builder_class.VERSION)


def _define_flags():
    flags.DEFINE_string("workdir", None, "Measure this run of experiments.train.")
    flags.DEFINE_string("weights", None, "Measure this released model.")
    flags.DEFINE_list(
        "splits", [], "Measure splits, or parts as train[-10%:] (default: all tests)."
    )
    flags.DEFINE_string(
        "images", None, "Use your images: a folder, a picture, or an array."
    )
    flags.DEFINE_integer(
        "num_images", None, "Use the first images, this many a split.", lower_bound=1
    )
    flags.DEFINE_integer(
        "num_samples", 100, "Draw this number of importance samples.", lower_bound=1
    )
    flags.DEFINE_integer(
        "num_candidates",
        10,
        "Candidates per object in a second bound (0: leave this bound out).",
        lower_bound=0,
    )
    flags.DEFINE_integer("seed", 0, "Seed the importance samples by this number.")
    flags.DEFINE_string(
        "data_dir", None, "Find the data here (default: where training did)."
    )
    flags.DEFINE_string(
        "manual_dir", None, "Find MNIST's files here (default: where training did)."
    )
    flags.DEFINE_string(
        "out", None, "Write here (default: a folder in the workdir or in runs/)."
    )


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
