"""Golden figures of released models and of a tiny run must stay, bit by bit.

python -m tests.golden --check  # compares bitwise: on the processor that recorded them
python -m tests.golden --write  # records them anew, after a model or the step changed

`test_pretrained.py` compares the models within rounding errors, on any machine.
"""

import argparse
import hashlib
import json
import os
import pathlib
import sys

if __name__ == "__main__":
    # JAX reads this when it is imported. Tests set it in conftest.py.
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from sklearn.datasets import load_digits

import lavae_jax
from datasets import load, scenes
from datasets.multi_mnist import digits
from datasets.multi_mnist import multi_mnist_dataset_builder as multi_mnist
from experiments.configs import dsprites
from experiments.run import build
from lavae_jax import editing, pretrained, released

RECORD = pathlib.Path(__file__).with_suffix(".json")

NUM_SAMPLES = 3

TINY_RUN = "a run of dsprites.py:tiny"


def images_like(data):
    """Makes 6 scenes of a data set, the last of 7 objects if it has such: uint8.

    The digits of multi-MNIST are scikit-learn's, which are no download.
    """
    splits = load.splits(data)
    counts = splits["train"].counts
    most = 7 if "test_7" in splits else max(counts)
    make = _scenes_of_digits() if "mnist" in data else load.scene_maker(data)
    few = scenes.Split(num_examples=5, counts=counts, stream=1)
    many = scenes.Split(num_examples=1, counts=(most,), stream=2)
    made = [make(s, i)["image"] for s in (few, many) for i in range(s.num_examples)]
    return np.stack(made)


def _scenes_of_digits():
    found = load_digits()
    scaled = (found.images * 15.9375).astype(np.uint8).repeat(3, 1).repeat(3, 2)
    masks = digits.shrink(np.pad(scaled, ((0, 0), (2, 2), (2, 2))))
    index = np.arange(len(masks))
    pool = digits.Digits(masks, found.target, index, index)
    return lambda split, i: multi_mnist.make_scenes(pool, (0, 0), split, [i])[0]


def figures(name):
    """Computes the figures of one released model.

    Args:
        name: one of `pretrained.names()`.

    Returns:
        Arrays by their names. Integers are numbers of objects and pixel positions,
        floats are nats and sums of pixel means and of appearances.
    """
    model, variables = lavae_jax.load_pretrained(name)
    data = released.read(pretrained.FOLDER / name).config["data"]["name"]
    images = images_like(data)
    key_bound, key_sample = jax.random.split(jax.random.key(17))
    computed = {
        "log_weights": lavae_jax.log_weights(
            model, variables, images, key_bound, NUM_SAMPLES
        ),
        "reconstruction": lavae_jax.reconstruct(model, variables, images),
        "samples": lavae_jax.generate(model, variables, key_sample, len(images)),
    }
    if isinstance(model, lavae_jax.LAVAE):
        scene = lavae_jax.infer(model, variables, images)
        edited = lavae_jax.render(model, variables, _edited(scene, model.image_shape))
        computed |= {"n": scene.n, "yx": scene.yx[scene.active], "edited": edited}
        computed |= {"z_app": scene.z_app[scene.active]}
    return {field: np.asarray(value) for field, value in computed.items()}


def tiny_run():
    """Trains `dsprites.py:tiny` on a few images; returns its parameters by name."""
    config = dsprites.get_config("tiny")
    config.model.count_threshold = 1e-3  # so that a model sees objects from the start
    config.optimizer.rise_steps = 0  # so that no learning rate is 0
    experiment = build.build(config)
    state, images = (
        experiment.init(jax.random.key(config.seed)),
        images_like(config.data.name),
    )
    for step in range(1, config.num_steps + 1):
        state, _ = jax.jit(experiment.train_step_at(step))(state, images)
    return pretrained.flatten(jax.tree.map(np.asarray, state.params))


def _edited(scene, image_shape):
    """Moves and restyles objects of the last scene; mixes and removes some of many."""
    crowded = len(scene.n) - 1
    scene = editing.move(scene, 0, (20, 30), image_shape, only=crowded)
    scene = editing.restyle(scene, 1, [0, 1], [1.0, -1.0], only=crowded)
    if scene.n[crowded] < 5:
        return scene
    scene = editing.interpolate(scene, 2, 3, 0.5, only=crowded)
    return editing.remove(scene, 4, only=crowded)


def condensed(computed):
    """Returns the figures as JSON holds them.

    Images become the sums over their pixels, appearances become the sums over their
    dimensions. The digest covers every bit of every array.
    """
    numbers = {}
    digest = hashlib.sha256()
    for field, value in sorted(computed.items()):
        digest.update(f"{field} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
        if value.ndim == 4:
            value = value.sum((1, 2, 3), dtype=np.float64)
        elif field.endswith("z_app"):
            value = value.sum(-1, dtype=np.float64)
        numbers[field] = value.tolist()
    return {**numbers, "digest": digest.hexdigest()}


def condensed_run(params):
    """Returns the Euclidean norm of each part's parameters and a digest of all bits."""
    squares = {}
    for name, value in params.items():
        part = "/".join(name.split("/")[:2])
        total = float((value.astype(np.float64) ** 2).sum())
        squares[part] = squares.get(part, 0.0) + total
    norms = {part: total**0.5 for part, total in sorted(squares.items())}
    return {**norms, "digest": condensed(params)["digest"]}


def to_text(models):
    """Returns JSON of the figures of all models, one field a line."""
    blocks = []
    for name, fields in models.items():
        lines = (f"  {json.dumps(key)}: {json.dumps(fields[key])}" for key in fields)
        blocks.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def recorded():
    """Returns the recorded figures of every model and of `TINY_RUN`, by name."""
    return json.loads(RECORD.read_text())


def main():
    """Records the figures, or names the models that no longer give them."""
    parser = argparse.ArgumentParser(description="Golden figures of released models.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true", help="Compares bitwise.")
    mode.add_argument("--write", action="store_true", help="Records them anew.")
    arguments = parser.parse_args()
    found = {name: condensed(figures(name)) for name in pretrained.names()}
    found[TINY_RUN] = condensed_run(tiny_run())
    if arguments.write:
        RECORD.write_text(to_text(found))
        return
    differing = [name for name in found if found[name] != recorded().get(name)]
    if differing:
        sys.exit(f"These give other figures: {', '.join(differing)}.")
    print(f"All figures of {', '.join(found)} are the recorded ones.")


if __name__ == "__main__":
    main()
