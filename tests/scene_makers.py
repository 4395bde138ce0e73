"""Makers of scenes that tell where they run, or fail. Workers import this."""

import os
import sys
import time

import numpy as np


def square(split, index):
    """The square of the index."""
    return {"square": np.array(split.stream * index**2, np.int64)}


def failing(split, index):
    """Fails at one index."""
    if index == 7:
        raise ValueError(f"scene {index} can't be made")
    return square(split, index)


def process(split, index):
    """The process, and which of the modules are loaded that a worker does not need."""
    heavy = {
        "jax",
        "tensorflow",
        "tensorflow_datasets",
        "experiments",
        "tests.commands",
    }
    return {
        "process": np.array(os.getpid()),
        "loaded": np.array(",".join(sorted(heavy & set(sys.modules)))),
    }


def slow(split, index):
    """Takes a second."""
    time.sleep(1)
    return process(split, index)
