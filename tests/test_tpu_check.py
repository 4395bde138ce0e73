"""Train steps compile for TPUs; the last test needs libtpu, and no TPU."""

import importlib.util
import re

import pytest

from experiments import tpu_check
from tests.commands import run_here, run_python

CONFIG = "experiments/configs/dsprites.py:tiny"


def test_without_the_compiler(monkeypatch):
    """A user without libtpu reads how to install it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    tpu_check.mesh.cache_clear()
    status, said = run_here(tpu_check, f"--config={CONFIG}")
    assert status == 1 and "pip install 'jax[tpu]'" in said


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install 'jax[tpu]'",
)
def test_a_tiny_run_fits_eight_chips():
    """All phases compile, for chips that average their gradients."""
    done = run_python(
        *("-m", "experiments.tpu_check", f"--config={CONFIG}", "--slices=v5e-8"),
        XLA_FLAGS="",  # the tests' flags are for CPUs
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| v5e-8")]
    assert sum(int(row.split("|")[4]) for row in rows) == 6
    shape = r".* \| \d+\.\d\d of 16 GiB \| \d+\.\d MiB \| \d+ s \|"
    assert all(re.fullmatch(shape, row) for row in rows)
