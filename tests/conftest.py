"""Every test runs on the CPU, with four virtual devices and strict promotion."""

import gc
import os

from tests import compilation

# JAX and XLA read these once, when the first test imports JAX.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        *compilation.FAST,
    ]
).strip()
os.environ.update(compilation.SHARED)
# Figures are drawn without a display.
os.environ["MPLBACKEND"] = "Agg"

import jax
import pytest

from datasets import floors, load
from experiments.configs import dsprites


def pytest_collection():
    """Turns the search for cycles off, which takes a fifth of the time of imports."""
    gc.disable()


def pytest_collection_finish():
    """Lets Python search for cycles only in what tests have just made.

    What JAX keeps of programs grows with every test, and so does the time of a search
    through all of it. Such searches took a twentieth of all tests' time.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 1_000)
    gc.enable()


def pytest_unconfigure():
    """Removes the compiled programs."""
    if compilation.PROGRAMS is not None:
        compilation.PROGRAMS.cleanup()


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Makes an accidental change of dtype or rank an error inside every test.

    Some libraries, such as optax and distrax, mix dtypes and ranks themselves: a test
    that calls them is marked `standard_promotion`.
    """
    marked = request.node.get_closest_marker("standard_promotion")
    dtypes, ranks = ("standard", "allow") if marked else ("strict", "raise")
    with jax.numpy_dtype_promotion(dtypes), jax.numpy_rank_promotion(ranks):
        yield


@pytest.fixture(scope="session", autouse=True)
def few_placements():
    """Estimates entropies of data sets from a tenth of the sample, in less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floors, "NUM_PLACEMENTS", floors.NUM_PLACEMENTS // 10)
        yield


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Generates multi_dsprites/tiny, once for a process's tests; returns its folder."""
    folder = tmp_path_factory.mktemp("data")
    load.builder("multi_dsprites/tiny", folder)
    return str(folder)


@pytest.fixture(scope="module")
def config(data_dir):
    """Makes the config of the tiny variant of multi-dSprites."""
    config = dsprites.get_config("tiny")
    config.data.data_dir = data_dir
    config.model.objects_per_image = 10.0  # a buffer for all slots, and no second
    return config
