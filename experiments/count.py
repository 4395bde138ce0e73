"""Counts and locates the objects in images, and writes tables of them.

python -m experiments.count --images=FOLDER_OR_FILE --model=NAME_OR_WORKDIR --out=DIR

The model is a released one (`multi_dsprites`) or the workdir of a run of your own, and
images may have any size. Pixels are read as in training, unless --threshold (of binary
pixels) or --levels (the values of black and of white) says otherwise. DIR gets

- `counts.csv`: file, n; a row per image.
- `objects.csv`: file, n, row, column, top, left, bottom, right, log_evidence; a row per
  object. Row and column are the centre of its box, in pixels; bottom and right are
  exclusive. log_evidence is by how many nats the object raises the ELBO; objects below
  --least_evidence, 0 nats, are left out.
- `overlays`: the first images with the boxes drawn in them.
- `labels`, with --labels: a 16-bit PNG per image, whose pixels are 0 for the background
  and i for the i-th object of this image in `objects.csv`.

The tables of an interrupted count are called `counts.unfinished.csv` and so on.
Overlays and labels of an earlier count are moved to the folder `earlier`.

If FILE holds `masks`, `positions` or `n` beside the images, as in training, the command
also prints how well they agree.
"""

import csv
import math
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image
from tqdm import auto as tqdm

import lavae_jax
from experiments import cli, files
from experiments.own import comparison, overlays, pictures, survey
from experiments.own import data as own_data
from experiments.own import images as own_images
from experiments.run import workdir as run_workdir
from lavae_jax import pretrained, released, runs
from lavae_jax.config import is_baseline

_IMAGE_FIELDS = ("file", "n")
_BOX_FIELDS = ("top", "left", "bottom", "right")
_OBJECT_FIELDS = (*_IMAGE_FIELDS, "row", "column", *_BOX_FIELDS, "log_evidence")
_AT_A_TIME = 128
_SOON = 2.0  # seconds after which a progress bar appears
_LEAST_BYTES = 2**20
_MOST_LABELS = np.iinfo(np.uint16).max
_NO_OBJECTS = "--model={} is a baseline, which has no objects."


class Counted(NamedTuple):
    """What was found in one image."""

    name: str
    image: np.ndarray  # [H, W, C] uint8
    found: lavae_jax.FoundObjects


def count(
    model: lavae_jax.LAVAE,
    variables: dict[str, Any],
    found: pictures.Pictures,
    values: own_images.Values = own_images.BINARY,
    least_evidence: float = 0.0,
) -> Iterator[Counted]:
    """Returns what a model finds in each picture, in order, with a progress bar.

    Objects of less evidence are left out: below 0 nats, the ELBO is higher without one.
    All pictures are read and checked before this returns, and then counted one after
    the other. What can't be used is a ValueError.
    """
    channels = model.image_shape[2]

    def read(index):
        name = found.names[index]
        image = own_images.with_channels(name, found.read(index), channels)
        return values.convert(name, image)

    indices = range(len(found.names))
    looked_at = tqdm.tqdm(
        indices, desc="reading", unit=" images", leave=False, delay=_SOON
    )
    lit = np.mean([np.mean(read(index) > 0) for index in looked_at])
    if model.is_binary and (lit > survey.MOST_LIT or not lit):
        cli.warn(
            f"{lit:.0%} of all pixels are lit, but objects have to be lit, and the"
            " background black: invert the images, or give another --threshold."
        )

    def counted():
        with tqdm.tqdm(total=len(indices), desc="counting", unit=" images") as progress:
            for start in indices[::_AT_A_TIME]:
                batch = indices[start : start + _AT_A_TIME]
                images = [read(index) for index in batch]
                objects = [
                    one.with_evidence(least_evidence)
                    for one in lavae_jax.find_objects(model, variables, images)
                ]
                names = [found.names[index] for index in batch]
                yield from map(Counted, names, images, objects)
                progress.update(len(batch))

    return counted()


def write(
    counted: Iterator[Counted],
    out: pathlib.Path,
    num_overlays: int,
    with_labels: bool = False,
) -> Iterator[lavae_jax.FoundObjects]:
    """Writes the tables and the first overlays, maybe labels, and yields the objects.

    An image with more objects than labels have numbers for is a ValueError.
    """
    with (
        files.finished_at_the_end(out / "counts.csv") as counts_file,
        files.finished_at_the_end(out / "objects.csv") as objects_file,
    ):
        counts, objects = csv.writer(counts_file), csv.writer(objects_file)
        counts.writerow(_IMAGE_FIELDS)
        objects.writerow(_OBJECT_FIELDS)
        for index, (name, image, found) in enumerate(counted):
            counts.writerow((name, found.n))
            columns = found.centre, found.box, found.log_evidence
            for centre, box, evidence in zip(*columns, strict=True):
                objects.writerow((name, found.n, *centre, *box, f"{evidence:.1f}"))
            if index < num_overlays:
                overlays.overlay(image, found.box).save(
                    out / "overlays" / f"{name}.png"
                )
            if with_labels:
                if found.n > _MOST_LABELS:
                    raise ValueError(
                        f"{name} has {found.n} objects, but labels of 16 bits can tell"
                        f" {_MOST_LABELS} apart: leave out --labels."
                    )
                labels = comparison.labels_of(found, image.shape[:2])
                path = out / "labels" / f"{name}.png"
                Image.fromarray(labels.astype(np.uint16)).save(path)
            yield found


def load_model(
    name: str,
) -> tuple[lavae_jax.LAVAE, dict[str, Any], dict[str, Any]]:
    """Loads a released model or the newest of a run; returns its config too."""
    path = pathlib.Path(name)
    with cli.user_errors(ValueError, OSError):
        if path.resolve().parent == pretrained.FOLDER.resolve():
            name = path.name
        if name in pretrained.names():
            contents = released.read(pretrained.FOLDER / name)
            if is_baseline(contents.config):
                raise cli.UserError(_NO_OBJECTS.format(name))
            model, variables = pretrained.assemble(
                contents.config, contents.tensors, name
            )
            return model, variables, contents.config
        if not path.is_dir():
            raise cli.UserError(
                f"--model={name} is neither the workdir of a run nor a released model:"
                f" {', '.join(pretrained.names())}."
            )
        if is_baseline(runs.read_config(name)):
            raise cli.UserError(_NO_OBJECTS.format(name))
        model, run = pretrained.read_run(name)
    if run.warning:
        cli.warn(run.warning)
    return model, run.variables, run.config


def _pixel_values(model, config, values):
    """Returns how pixels are converted: as the flags say, or else as in training."""
    wrong, right = ("levels", "threshold")[:: 1 if model.is_binary else -1]
    if values[wrong].value is not None:
        kind = "binary" if model.is_binary else "many"
        raise cli.UserError(
            f"--{wrong} is not for this model, whose pixels have {kind} values: leave"
            f" it out, or give --{right}."
        )
    if values.threshold is not None:
        if not 0 <= values.threshold < math.inf:
            raise cli.UserError(
                f"--threshold must be a number of at least 0: got {values.threshold}."
            )
        return own_images.Values(threshold=values.threshold)
    if values.levels is None:
        return own_data.values_of(run_workdir.from_json(config))
    try:
        black, white = map(float, values.levels)
    except ValueError:
        black = white = 0.0
    if not -math.inf < black < white < math.inf:
        raise cli.UserError(
            "--levels must be two numbers, the values of black and of white, the first"
            f" one smaller: got {','.join(values.levels)}."
        )
    return own_images.Values(levels=(black, white))


def main() -> None:
    """Counts the objects of the images that the command line names."""
    values, out = flags.FLAGS, pathlib.Path(flags.FLAGS.out)
    if math.isnan(values.least_evidence):
        raise cli.UserError("--least_evidence must be a number of nats: got nan.")
    with cli.user_errors(ValueError, OSError):
        model, variables, config = load_model(values.model)
        pixels = _pixel_values(model, config, values)
        path = pathlib.Path(values.images)
        found = pictures.find(path)
    if found.remark:
        print(found.remark)
    cli.make_writable(out, _LEAST_BYTES)
    with cli.user_errors(ValueError, OSError):
        truth, size = _truth(path, found, values.tile)
        counted = count(model, variables, found, pixels, values.least_evidence)
        overlays.prepare_folders(out, found.names, values.overlays, values.labels)
        objects = write(counted, out, values.overlays, values.labels)
        if truth is None:
            num_objects = sum(one.n for one in objects)
        else:
            compared = comparison.found_in(objects, size)
            num_objects = compared.n.sum()
    print(f"{num_objects} objects in {len(found.names)} images: see {out}.")
    if truth is not None:
        print(*comparison.describe(truth, compared, values.tile), sep="\n")


def _truth(path, found, tile):
    """Returns what the file says about its images, if anything, and their size."""
    truth, size = None, None
    if path.suffix.lower() in pictures.ARRAYS:
        shape = found.read(0).shape
        truth, size = own_images.load_truth(path, (len(found.names), *shape)), shape[:2]
    if tile and (truth is None or truth.centres is None):
        raise cli.UserError(
            f"--tile compares where objects are with `masks` or `positions`, but {path}"
            " has none: leave it out."
        )
    return truth, size


def _define_flags():
    flags.DEFINE_string("images", None, "A picture, a folder of them, or an array.")
    flags.DEFINE_string("model", None, "A released model's name, or a run's workdir.")
    flags.DEFINE_string("out", "runs/counts", "The folder for tables and overlays.")
    flags.DEFINE_float(
        "threshold", None, "Values from here on are white; by default as in training."
    )
    flags.DEFINE_list(
        "levels", None, "Values of black and of white; by default those of training."
    )
    flags.DEFINE_float(
        "least_evidence", 0.0, "Leave out objects of less evidence, in nats."
    )
    flags.DEFINE_integer(
        "overlays", 100, "How many first images are drawn with boxes.", lower_bound=0
    )
    flags.DEFINE_bool("labels", False, "Whether the pixels of objects are written too.")
    flags.DEFINE_integer(
        "tile", 0, "Counts are also compared in squares of this side.", lower_bound=0
    )
    flags.mark_flags_as_required(["images", "model"])


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
