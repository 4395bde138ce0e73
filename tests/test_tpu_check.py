"""Train steps compile for TPUs; the test needs libtpu, and no TPU."""

import re

import pytest

from tests.commands import run_python

CONFIG = "experiments/configs/dsprites.py:tiny"


def test_a_tiny_run_fits_eight_chips():
    """All phases compile, for chips that average their gradients."""
    pytest.importorskip("libtpu", reason="needs pip install 'jax[tpu]'")
    done = run_python(
        *("-m", "experiments.tpu_check", f"--config={CONFIG}", "--slices=v5e-8"),
        XLA_FLAGS="",  # the tests' flags are for CPUs
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| v5e-8")]
    assert sum(int(row.split("|")[4]) for row in rows) == 6
    shape = r".* \| \d+\.\d\d of 16 GiB \| \d+\.\d MiB \| \d+ s \|"
    assert all(re.fullmatch(shape, row) for row in rows)
