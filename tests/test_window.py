"""Means of metrics between reports, and the guard against divergence."""

import json
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.checkpoints import Checkpoints
from experiments.window import Window


class _Metrics(NamedTuple):
    loss: float
    elbo: float | None = None
    tau: float | None = None


@pytest.fixture(name="window")
def _window(tmp_path):
    return Window(Checkpoints(tmp_path))


def test_means_are_over_the_steps_that_have_a_metric(window):
    """None if no step has it; and every step counts in one mean only."""
    for step, metrics in enumerate([_Metrics(2.0), _Metrics(4.0, -3.0), _Metrics(9.0)]):
        window.add(step, metrics)
    assert window.mean() == _Metrics(5.0, -3.0, None)
    window.add(3, _Metrics(1.0, -7.0))
    assert window.mean() == _Metrics(1.0, -7.0, None)


def test_means_go_on_after_an_interruption(window, tmp_path):
    """A mean over steps on both sides of it counts each of them, once."""
    window.add(1, _Metrics(2.0))
    window.add(2, _Metrics(3.0, -3.0))
    rows = json.loads(json.dumps(window.rows()))
    resumed = Window(Checkpoints(tmp_path), rows)
    for one in (window, resumed):
        one.add(3, _Metrics(10.0))
        assert one.mean() == _Metrics(5.0, -3.0, None)
        assert one.rows() == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_divergence_is_an_error(window, value):
    """It names the step, the metric and the last good checkpoint."""
    window.add(7, _Metrics(1.0, value))
    with pytest.raises(cli.UserError, match=r"step 7: elbo is .* no checkpoint yet"):
        window.fetch()
    window.check(8, {"a": jnp.ones(2), "step": jnp.int32(3)})
    with pytest.raises(cli.UserError, match="step 9: a parameter is not finite"):
        window.check(9, {"a": jnp.array([1.0, value])})
