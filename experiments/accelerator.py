"""Trains LAVAE on one accelerator for a given time, and measures it there.

python -m experiments.accelerator --pack=scenes.npz --config=FILE[:VARIANT]
python -m experiments.accelerator --scenes=scenes.npz --config=... --workdir=DIR

The first command writes all scenes to a small file, for a machine without the data
sets. The second one keeps them on the device, makes many steps per dispatch, and moves
the config's schedule along with the clock, so that it ends after --minutes of training
however fast the device is. SIGTERM stops it earlier, as `timeout 9m` does, and the same
command continues. At the end it writes `accelerator.json` to the workdir: images per
second, counts and bounds.
"""

import json
import pathlib
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from datasets import load
from experiments import cli
from experiments.measure import measure
from experiments.run import build, clocked
from lavae_jax import metrics
from lavae_jax.model import LAVAE

_NUM_SAMPLES = 100


def pack(config: ConfigDict, path: str | pathlib.Path) -> None:
    """Writes the scenes of a config's data set to an `.npz`, eight pixels per byte.

    Its arrays are the training scenes of a run, `train`, and for every other split its
    scenes and their numbers of objects, `SPLIT` and `SPLIT_n`.
    """
    data = config.data
    folders = (data.data_dir, data.manual_dir)
    arrays = {}
    for split, info in load.splits(data.name).items():
        images = load.images(data.name, split, *folders)
        last = info.num_examples - (data.num_valid if split == "train" else 0)
        rows = (np.packbits(images[index] > 0) for index in range(last))
        arrays[split] = np.stack(list(rows))
        if split != "train":
            arrays[f"{split}_n"] = load.object_counts(data.name, split, *folders)
    with open(path, "wb") as file:  # a path would get the suffix .npz
        np.savez_compressed(file, **arrays)


def counts_and_bound(
    model: LAVAE, variables: Any, image_set: measure.ImageSet
) -> dict[str, float]:
    """Measures the share of right counts, and -log p(x) in nats with a 95% interval."""
    settings = measure.Settings(num_samples=_NUM_SAMPLES)
    inferred = measure.infer(model, variables, image_set, settings)
    (bound,) = metrics.importance_bounds(inferred.log_weights.T, [_NUM_SAMPLES])
    mean = metrics.mean_and_error(-bound.log_p)
    return {
        "counts": metrics.count_accuracy(image_set.truth.n, inferred.scenes.n),
        "-log p(x)": mean.mean,
        "95%": 1.96 * mean.standard_error,
    }


def main() -> None:
    """Packs scenes, or trains on packed ones and measures the model."""
    values = flags.FLAGS
    config = values.config
    if values.pack:
        with cli.user_errors(ValueError, OSError):
            pack(config, values.pack)
        size = pathlib.Path(values.pack).stat().st_size
        print(f"{values.pack}: {size / 2**20:.1f} MiB")
        return
    if values.workdir is None:
        raise cli.UserError("--workdir=DIR is needed.")
    scenes = _read_scenes(config, values.scenes)
    state, figures = clocked.train(
        config,
        scenes["train"],
        values.workdir,
        minutes=values.minutes,
        steps_per_dispatch=values.steps_per_dispatch,
    )
    result = {"device": jax.devices()[0].device_kind, "training": figures}
    model = build.build_model(config)
    for image_set in _held_out(config, scenes, values.num_images):
        measured = counts_and_bound(model, state.variables, image_set)
        result[image_set.name] = measured
        print(image_set.name, *(f"{k} {v:.4g}" for k, v in measured.items()))
    path = pathlib.Path(values.workdir) / "accelerator.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def _held_out(config, scenes, num_images):
    """Yields the first images of every split that is not trained on."""
    shape = tuple(config.model.image_shape)
    for name in sorted(scenes):
        if f"{name}_n" in scenes:
            images = clocked.unpack(jnp.asarray(scenes[name][:num_images]), shape)
            n = scenes[f"{name}_n"][:num_images]
            truth = measure.TrueScenes(n, centres=None, labels=None)
            yield measure.ImageSet(name, np.asarray(images, np.uint8) * 255, truth)


def _read_scenes(config, path):
    """Reads the arrays of a file from `pack`; refuses other files and other scenes."""
    advice = "make it with --pack and the same --config"
    try:
        # np.load leaves the file of a broken archive open.
        with open(path, "rb") as file:
            scenes = dict(np.load(file))
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise cli.UserError(
            f"--scenes: {path} can't be read, or is no file of scenes: {advice}."
        ) from error
    shape = tuple(config.model.image_shape)
    size = -(-int(np.prod(shape)) // 8)
    if "train" not in scenes or scenes["train"].shape[1:] != (size,):
        raise cli.UserError(
            f"--scenes: {path} does not hold scenes of {shape}, which take {size} bytes"
            f" each: {advice}."
        )
    return scenes


def _define_flags():
    cli.define_config()
    flags.DEFINE_string("pack", None, "Write all scenes to this file.")
    flags.DEFINE_string("scenes", None, "Train on this file, which --pack made.")
    flags.mark_flags_as_mutual_exclusive(["pack", "scenes"], required=True)
    flags.DEFINE_string("workdir", None, "Keep the run in this folder.")
    flags.DEFINE_float("minutes", 25.0, "Train this many minutes.", lower_bound=1e-3)
    flags.DEFINE_integer(
        "steps_per_dispatch", 50, "Make this number of steps at once.", lower_bound=1
    )
    flags.DEFINE_integer(
        "num_images", 10_000, "Measure this many first images a split.", lower_bound=1
    )


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
