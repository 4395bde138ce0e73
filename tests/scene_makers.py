"""Makers of scenes that tell where they run, or fail. Workers import this."""

import os
import sys
import time

import numpy as np


def squares(split, indices):
    """The squares of the indices."""
    return [{"square": np.array(split.stream * i**2, np.int64)} for i in indices]


def failing(split, indices):
    """Fails at one index."""
    if 7 in indices:
        raise ValueError("scene 7 can't be made")
    return squares(split, indices)


def processes(split, indices):
    """The process, and which of the modules are loaded that a worker does not need."""
    heavy = {
        "jax",
        "tensorflow",
        "tensorflow_datasets",
        "experiments",
        "tests.commands",
    }
    found = {
        "process": np.array(os.getpid()),
        "loaded": np.array(",".join(sorted(heavy & set(sys.modules)))),
    }
    return [found for _ in indices]


def slow(split, indices):
    """Takes a second."""
    time.sleep(1)
    return processes(split, indices)
