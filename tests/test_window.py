"""Means of metrics between reports, and the error of a run that diverges."""

import json
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.run.checkpoints import Checkpoints
from experiments.run.window import Window


class _Metrics(NamedTuple):
    loss: float
    elbo: float | None = None
    tau: float | None = None


@pytest.fixture(name="window")
def _window(tmp_path):
    return Window(Checkpoints(tmp_path))


def test_means_go_on_after_an_interruption(window, tmp_path):
    """A mean over steps on both sides of it counts each of them, once."""
    window.add(1, _Metrics(2.0))
    window.add(2, _Metrics(3.0, -3.0))
    rows = json.loads(json.dumps(window.rows()))
    resumed = Window(Checkpoints(tmp_path), rows)
    for one in (window, resumed):
        one.add(3, _Metrics(10.0))
        assert one.mean() == _Metrics(5.0, -3.0)
        assert one.rows() == []


def test_divergence_is_an_error(window):
    """It names the step, each metric that is wrong and the last good checkpoint."""
    window.add(6, _Metrics(1.0))
    window.add(7, _Metrics(np.nan, np.inf, 1.0))
    message = r"step 7: loss is nan, elbo is inf: .* no checkpoint yet"
    with pytest.raises(cli.UserError, match=message):
        window.rows()


def test_a_state_that_is_not_finite_is_an_error(window):
    """The error names the part of the state, however good the loss is."""
    state = {"step": jnp.int32(2), "params": {"a": jnp.ones(3), "b": jnp.ones(2)}}
    window.check_state(2, state)
    state["params"]["b"] = jnp.array([1, jnp.inf])
    message = "step 2: params/b is not finite: .* no checkpoint yet"
    with pytest.raises(cli.UserError, match=message):
        window.check_state(2, state)
