"""Trains LAVAE on one accelerator for so many minutes, and measures it there.

python -m experiments.accelerator --pack=scenes.npz --config=FILE[:VARIANT]
python -m experiments.accelerator --scenes=scenes.npz --config=... --workdir=DIR

The first command writes all scenes to a small file, for a machine without the data
sets. The second one keeps them on the device, makes many steps per dispatch, and moves
the config's schedule along with the clock, so that it ends after --minutes of training
however fast the device is. With --pause_after it stops earlier, and the same command
goes on. At the end it writes `accelerator.json` to the workdir: images per second,
operations, counts and bounds.
"""

import functools
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
from experiments.run import build, clocked
from lavae_jax import metrics, objectives
from lavae_jax.images import to_float
from lavae_jax.inference import infer
from lavae_jax.model import LAVAE

_NUM_SAMPLES = 100
_BATCH = 100  # images that are measured at a time


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
    np.savez_compressed(path, **arrays)


def measure(
    model: LAVAE, variables: Any, images: np.ndarray, n: np.ndarray
) -> dict[str, float]:
    """Counts and the bound of Table 1 on scenes.

    Images are [N, H, W, C] in {0, 1}, and n are their [N] true numbers of objects.

    Returns:
        The share of right counts, -log p(x) in nats, and the half-width of its 95%
        interval.
    """
    log_weights = jax.jit(
        functools.partial(objectives.log_weights, model, num_samples=_NUM_SAMPLES)
    )
    counts, weights = [], []
    for start in range(0, len(images), _BATCH):
        x = to_float(images[start : start + _BATCH])
        counts.append(infer(model, variables, x).n)
        keys = jax.random.split(jax.random.key(start), len(x))
        weights.append(log_weights(variables, x, keys))
    log_weights = np.concatenate(weights, axis=1)
    (bound,) = metrics.importance_bounds(log_weights, [_NUM_SAMPLES])
    mean = metrics.mean_and_error(-bound.log_p)
    counted = metrics.count_accuracy(n, np.concatenate(counts))
    return {
        "counts": counted,
        "-log p(x)": mean.mean,
        "95%": 1.96 * mean.standard_error,
    }


def main() -> None:
    """Packs scenes, or trains on packed ones and measures the model."""
    values = flags.FLAGS
    config = values.config
    if bool(values.pack) == bool(values.scenes):
        raise cli.UserError("give --pack=FILE to write scenes, or --scenes=FILE.")
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
        pause_after=values.pause_after,
        steps_per_dispatch=values.steps_per_dispatch,
    )
    result = {"device": jax.devices()[0].device_kind, "training": figures}
    is_over = figures.get("seconds", 0) >= 60 * values.minutes
    if not figures or is_over or state.step >= config.num_steps:
        model, shape = build.build_model(config), tuple(config.model.image_shape)
        for split in sorted(scenes.keys() - {"train"}):
            if split.endswith("_n"):
                continue
            first = slice(0, values.num_images)
            images = np.asarray(
                clocked.unpack(jnp.asarray(scenes[split][first]), shape)
            )
            found = measure(model, state.variables, images, scenes[f"{split}_n"][first])
            result[split] = found
            print(split, *(f"{k} {v:.4g}" for k, v in found.items()), flush=True)
    path = pathlib.Path(values.workdir) / "accelerator.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def _read_scenes(config, path):
    """The arrays of a file from `pack`; refuses other files and other scenes."""
    advice = "make it with --pack and the same --config"
    try:
        # np.load leaves the file open where it is a broken archive.
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
    flags.DEFINE_string("pack", None, "The file to write all scenes to.")
    flags.DEFINE_string("scenes", None, "The file to train on, from --pack.")
    flags.DEFINE_string("workdir", None, "The run's folder.")
    flags.DEFINE_float(
        "minutes", 25.0, "How long to train, without compilation.", lower_bound=1e-3
    )
    flags.DEFINE_float(
        "pause_after",
        None,
        "Minutes after which to stop; the same command goes on.",
        lower_bound=1e-3,
    )
    flags.DEFINE_integer(
        "steps_per_dispatch", 50, "Steps between looks at the clock.", lower_bound=1
    )
    flags.DEFINE_integer(
        "num_images", 10_000, "How many scenes of each split to measure.", lower_bound=1
    )


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
