"""However a run is spread over devices and processes, it is the same run.

Runs differ by rounding only: each spread sums over a batch in another order. The runs
here descend on the plain gradient, unlike those of the configs, so that a difference in
the gradient is one in the parameters. Adam and Adamax divide the gradient by its own
size: where it is near 0 its rounding becomes a whole step, and a sum over devices in
place of their mean makes no difference at all.
"""

import jax
import pytest

from tests import scale_runs
from tests.joined_processes import finished
from tests.mean_images import devices_of
from tests.tiny_runs import rows as rows_of

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def test_a_run_does_not_depend_on_its_spread(tmp_path):
    """A run on 1 device equals one that goes on in 2 processes of 2 devices each.

    After 20 steps parameters and batch statistics differ by a thousandth of what they
    have moved; every step has had bitwise the same images and random draws. Each layer
    has batch statistics. Those of f_sprite are over objects alone, of which devices
    have uneven numbers and sometimes none.
    """
    one = devices_of(1)
    scale_runs.run(one, tmp_path / "one")
    scale_runs.run(one, tmp_path / "changing", num_steps=7)
    finished(
        lambda *process: ("-m", "tests.scale_runs", *process, tmp_path / "changing"),
        tmp_path,
    )
    expected, rows = (rows_of(tmp_path / name, "train") for name in ("one", "changing"))
    draws = scale_runs.BATCH_SIZE * scale_runs.RECIPE.num_draws
    objects = [round(row["objects"] * draws) for row in expected]
    assert len(objects) == 20
    assert min(objects) < 4 < max(objects)  # none on some device, two on another
    for row, same in zip(rows, expected, strict=True):
        for name in ("step", "objects", "draws", "images"):
            assert row[name] == same[name], (name, row["step"])
        for name in ("loss", "elbo"):
            assert row[name] == pytest.approx(same[name], rel=5e-5)
    init = scale_runs.experiment().init
    start = scale_runs.plain(init(jax.random.key(0)))
    ends = (scale_runs.end(tmp_path / name, init) for name in ("changing", "one"))
    scale_runs.assert_equal(*ends, start)
