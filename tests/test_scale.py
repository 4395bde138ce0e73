"""However a run is spread over devices and processes, it is the same run.

Up to rounding: sums over a batch are made in another order on every spread. The runs
here descend on the plain gradient, unlike those of the configs, so that a difference in
the gradient is one in the parameters. Adam and Adamax divide the gradient by its own
size: where it is near 0 its rounding becomes a whole step, and a sum over devices in
place of their mean makes no difference at all.
"""

import jax
import numpy as np
import pytest

from tests import scale_runs
from tests.joined_processes import finished
from tests.mean_images import devices_of
from tests.scale_runs import column

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def test_a_run_does_not_depend_on_its_spread(tmp_path):
    """On 1 device, on 4, in 2 processes of 2, and on 4, then 1, then 2 × 2.

    After 20 steps parameters and batch statistics differ by a thousandth of what they
    have moved; every step has had bitwise the same images and random draws. Each layer
    has batch statistics, those of f_sprite over objects alone, of which devices have
    uneven numbers and sometimes none.
    """
    one, four = map(devices_of, (1, 4))
    scale_runs.run(one, tmp_path / "one")
    scale_runs.run(four, tmp_path / "four")
    scale_runs.run(four, tmp_path / "changing", num_steps=7)
    scale_runs.run(one, tmp_path / "changing", num_steps=14)
    joined = [f"20={tmp_path / name}" for name in ("joined", "changing")]
    finished(
        lambda address, index: ("-m", "tests.scale_runs", address, index, *joined),
        tmp_path,
    )
    expected, init = scale_runs.rows(tmp_path / "one"), scale_runs.experiment().init
    draws = scale_runs.BATCH_SIZE * scale_runs.RECIPE.num_draws
    objects = [round(row["objects"] * draws) for row in expected]
    assert len(objects) == 20
    assert min(objects) < 4 < max(objects)  # none on some device, two on another
    start = scale_runs.plain(init(jax.random.key(0)))
    end = scale_runs.end(tmp_path / "one", init)
    for spread in ("four", "joined", "changing"):
        rows = scale_runs.rows(tmp_path / spread)
        for name in ("step", "objects", "draws", "images"):
            assert column(rows, name) == column(expected, name)
        for name in ("loss", "elbo"):
            np.testing.assert_allclose(
                column(rows, name), column(expected, name), rtol=5e-5
            )
        scale_runs.assert_equal(scale_runs.end(tmp_path / spread, init), end, start)
