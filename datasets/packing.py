"""Makes and packs the scenes of a split, in several processes where that pays.

Every worker imports this module, so it imports no TFDS, JAX or TensorFlow.
"""

import collections
import functools
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from joblib.externals import loky

from datasets import scenes

Maker = Callable[[scenes.Split, Sequence[int]], list[dict[str, np.ndarray]]]
"""Makes the scenes of a split at some indices; it is pickled for the workers."""

CHUNK = 1_000
"""Scenes that a worker makes at a time."""

FEW = 5_000
"""A split of fewer scenes is made before workers would have started."""


def pack(example: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Compresses the features of an example as TFDS does in its encoding ZLIB."""
    return {name: zlib.compress(value.tobytes()) for name, value in example.items()}


def pack_split(
    maker: Maker, split: scenes.Split, num_workers: int | None = None
) -> Iterator[dict[str, bytes]]:
    """Makes all scenes of a split, by default with one process per usable core.

    With one worker, or for few scenes, this process makes them. Errors of `maker` are
    raised here.

    Yields:
        Packed examples in the order of the split. The workers end with the generator,
        also where it is closed early.
    """
    size = split.num_examples
    chunks = [range(i, min(i + CHUNK, size)) for i in range(0, size, CHUNK)]
    work = functools.partial(_pack_chunk, maker, split)
    if num_workers is None:
        num_workers = 1 if size < FEW else loky.cpu_count()
    if num_workers == 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    # Unlike those of `multiprocessing`, these workers neither import the main module,
    # which may import JAX, nor inherit threads and locks. Ctrl-C reaches all processes:
    # workers leave it to this one, which ends them.
    ignore_ctrl_c = functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    executor = loky.ProcessPoolExecutor(num_workers, initializer=ignore_ctrl_c)
    waiting, finished = collections.deque(), False
    try:
        for chunk in chunks:
            waiting.append(executor.submit(work, chunk))
            if len(waiting) > 2 * num_workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
        finished = True
    finally:
        executor.shutdown(kill_workers=not finished)


def _pack_chunk(maker, split, indices):
    return [pack(example) for example in maker(split, indices)]
