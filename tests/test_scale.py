"""However a run is spread over devices and processes, it is the same run.

Up to rounding: sums over a batch are made in another order on every spread. The runs
here descend on the plain gradient, unlike those of the configs, so that a difference in
the gradient is one in the parameters. Adam and Adamax divide the gradient by its own
size: where it is near 0 its rounding becomes a whole step, and a sum over devices in
place of their mean makes no difference at all.
"""

import json

import jax
import numpy as np
import pytest

from experiments import checkpoints
from experiments.devices import Devices
from tests import scale_runs
from tests.joined_processes import finished

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def _rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [row for line in lines if (row := json.loads(line))["part"] == "train"]
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows]


def _column(rows, name):
    return [row[name] for row in rows]


def _end(workdir, init):
    """The state after the last step."""
    template = jax.eval_shape(init, jax.random.key(0))
    step, state, _ = checkpoints.Checkpoints(workdir).restore(template)
    assert step == scale_runs.NUM_STEPS
    return _plain(state)


def _plain(state):
    """The key as numbers."""
    return state._replace(key=jax.random.key_data(state.key))


def _assert_equal(state, expected, start, of_moved):
    """Up to a share of what a leaf has moved, and the last bits of its numbers."""

    def check(path, a, b, before):
        atol = of_moved * np.abs(b - before).max() + 5e-7 * np.abs(b).max()
        np.testing.assert_allclose(
            a, b, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path)
        )

    jax.tree.map_with_path(check, state, expected, start)


def test_a_run_does_not_depend_on_its_spread(data_dir, tmp_path):
    """On 1 device, on 4, in 2 processes of 2, and on 4, then 1, then 2 × 2.

    After 20 steps parameters and batch statistics differ by a thousandth of what they
    have moved; every step has had bitwise the same images and random draws. Each layer
    has batch statistics, those of f_sprite over objects alone, of which devices have
    uneven numbers and sometimes none.
    """
    one, four = (Devices(jax.devices()[:count]) for count in (1, 4))
    scale_runs.run(one, data_dir, tmp_path / "one")
    scale_runs.run(four, data_dir, tmp_path / "four")
    scale_runs.run(four, data_dir, tmp_path / "changing", num_steps=7)
    scale_runs.run(one, data_dir, tmp_path / "changing", num_steps=14)
    joined = [
        f"{scale_runs.NUM_STEPS}={tmp_path / name}" for name in ("joined", "changing")
    ]
    finished(
        lambda address, index: (
            *("-m", "tests.scale_runs", address, index, data_dir),
            *joined,
        ),
        tmp_path,
    )
    rows, init = _rows(tmp_path / "one"), scale_runs.experiment().init
    objects = [round(row["objects"] * scale_runs.BATCH_SIZE) for row in rows]
    assert min(objects) < 4 < max(objects)  # none on some device, two on another
    start, end = _plain(init(jax.random.key(0))), _end(tmp_path / "one", init)
    for spread in ("four", "joined", "changing"):
        others = _rows(tmp_path / spread)
        for name in ("step", "objects", "draws", "images"):
            assert _column(others, name) == _column(rows, name)
        for name in ("loss", "elbo"):
            np.testing.assert_allclose(
                _column(others, name), _column(rows, name), rtol=1e-5
            )
        _assert_equal(_end(tmp_path / spread, init), end, start, of_moved=1e-3)
