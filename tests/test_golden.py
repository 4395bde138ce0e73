"""The released models keep giving what they gave when they were released."""

import numpy as np
import pytest

from lavae_jax import pretrained
from tests import golden


@pytest.mark.standard_promotion
@pytest.mark.parametrize("name", pretrained.names())
def test_released_models_give_the_recorded_figures(name):
    """Counts and positions are the same, all else within rounding errors.

    Processors round differently. `python -m tests.golden --check` compares bitwise.
    """
    found, expected = golden.condensed(golden.figures(name)), golden.recorded()[name]
    assert found.keys() == expected.keys()
    for field in expected.keys() - {"digest"}:
        wanted = np.array(expected[field])
        tolerance = {} if wanted.dtype.kind == "i" else {"rtol": 1e-4, "atol": 1e-3}
        compare = np.testing.assert_allclose if tolerance else np.testing.assert_equal
        compare(np.array(found[field]), wanted, err_msg=field, **tolerance)


def test_figures_are_recorded_of_every_model():
    """No model is recorded that is not released, and none is left out."""
    assert sorted(golden.recorded()) == pretrained.names()
