"""Times how fast a model counts the objects of images on this machine.

python -m experiments.benchmark_count --model=NAME_OR_WORKDIR

For some numbers and sizes of images this prints the seconds of the first call of
`lavae_jax.find_objects`, in which its programs are compiled, and the images per second
of later calls. The scenes are samples of the model. Those of the large image lie side
by side.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

import lavae_jax
from experiments import cli
from experiments.count import load_model

_NUMBERS = (1, 16, 17, 128)  # 17 images are counted as 32, a size of its own
_LARGE_SIDE = 512


class Speed(NamedTuple):
    """How fast images are counted."""

    num_images: int
    size: tuple[int, int]
    first_seconds: float  # of the first call, with compilation
    seconds: float  # median of later calls


def speeds(
    model: lavae_jax.LAVAE,
    variables: dict[str, Any],
    batches: Sequence[np.ndarray],
    repeats: int,
) -> Iterator[Speed]:
    """Yields how long `find_objects` takes for each batch [N, H, W, C].

    Programs of equal shapes that were compiled before are used again.
    """
    for images in batches:
        seconds = []
        for _ in range(1 + repeats):
            start = time.perf_counter()
            lavae_jax.find_objects(model, variables, list(images))
            seconds.append(time.perf_counter() - start)
        size = images.shape[1:3]
        yield Speed(len(images), size, seconds[0], float(np.median(seconds[1:])))


def sampled_batches(
    model: lavae_jax.LAVAE, variables: dict[str, Any]
) -> list[np.ndarray]:
    """Samples batches of scenes, and puts some of them together to a large image."""
    means = lavae_jax.generate(model, variables, jax.random.key(0), max(_NUMBERS))
    images = np.asarray(means > 0.5 if model.is_binary else means, np.float32)
    height, width, channels = model.image_shape
    rows, columns = -(-_LARGE_SIDE // height), -(-_LARGE_SIDE // width)
    tiles = images[np.arange(rows * columns) % len(images)]
    tiles = tiles.reshape(rows, columns, height, width, channels)
    large = tiles.swapaxes(1, 2).reshape(1, rows * height, columns * width, channels)
    return [
        *(images[:num] for num in _NUMBERS),
        large[:, :_LARGE_SIDE, :_LARGE_SIDE],
    ]


def main() -> None:
    """Prints how fast the model that the command line names counts."""
    # A program from an earlier run would hide the time that it takes to compile.
    jax.config.update("jax_enable_compilation_cache", False)
    model, variables, _ = load_model(flags.FLAGS.model)
    batches = sampled_batches(model, variables)
    print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores:")
    for speed in speeds(model, variables, batches, flags.FLAGS.repeats):
        height, width = speed.size
        print(
            f"{speed.num_images} of {height}x{width} pixels: first call"
            f" {speed.first_seconds:.1f} s, then {speed.num_images / speed.seconds:.4g}"
            f" images/s ({1e3 * speed.seconds:.1f} ms)"
        )


def _define_flags():
    flags.DEFINE_string("model", None, "A released model's name, or a run's workdir.")
    flags.DEFINE_integer("repeats", 10, "Time this many later calls.", lower_bound=1)
    flags.mark_flag_as_required("model")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
