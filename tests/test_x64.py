"""JAX_ENABLE_X64=1 changes nothing but the types of numbers that users bring along."""

import json

import jax
import numpy as np
import pytest

from tests import x64_runs
from tests.commands import ROOT, run_python

# distrax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def test_with_64_bits():
    """A released model counts, places and measures as it does without them.

    Training works too: steps keep the types of a state, and losses are finite.
    """
    done = run_python("-m", "tests.x64_runs", JAX_ENABLE_X64="1", PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not jax.config.jax_enable_x64
    expected = x64_runs.measured()
    assert found["model"].pop("bound") == pytest.approx(expected.pop("bound"), rel=1e-4)
    assert found["model"] == expected
    assert np.isfinite(found["losses"]).all()
