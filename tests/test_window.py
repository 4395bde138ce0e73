"""Means of metrics between reports, and the guard against divergence."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from experiments import cli
from experiments.checkpoints import Checkpoints
from experiments.window import Window
from lavae_jax.training.guard import Guarded


class _Metrics(NamedTuple):
    loss: float
    elbo: float | None = None
    tau: float | None = None
    skipped: float | None = None


def _plain(loss, elbo=None, tau=None):
    return Guarded(_Metrics(loss, elbo, tau), np.array([False, False]))


def _skipped(loss, spoilt=(False, True)):
    return Guarded(_Metrics(loss, skipped=1.0), np.array(spoilt))


def _made(loss):
    return Guarded(_Metrics(loss, skipped=0.0), np.array([False, False]))


@pytest.fixture(name="window")
def _window(tmp_path):
    return Window(Checkpoints(tmp_path))


def test_means_are_over_the_steps_that_have_a_metric(window):
    """None if no step has it; and every step counts in one mean only."""
    for step, metrics in enumerate([_plain(2.0), _plain(4.0, -3.0), _plain(9.0)]):
        window.add(step, metrics)
    assert window.mean() == _Metrics(5.0, -3.0)
    window.add(3, _plain(1.0, -7.0))
    assert window.mean() == _Metrics(1.0, -7.0, None)


def test_means_go_on_after_an_interruption(window, tmp_path):
    """A mean over steps on both sides of it counts each of them, once."""
    window.add(1, _plain(2.0))
    window.add(2, _plain(3.0, -3.0))
    rows = json.loads(json.dumps(window.rows()))
    resumed = Window(Checkpoints(tmp_path), (), rows)
    for one in (window, resumed):
        one.add(3, _plain(10.0))
        assert one.mean() == _Metrics(5.0, -3.0)
        assert one.rows() == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_divergence_is_an_error(window, value):
    """It names the step, each metric that is wrong and the last good checkpoint."""
    window.add(7, _plain(value, value, 1.0))
    message = rf"step 7: loss is {value}, elbo is {value}: .* no checkpoint yet"
    with pytest.raises(cli.UserError, match=message):
        window.fetch()


def test_a_step_that_spoils_the_state_is_an_error(tmp_path):
    """However good its loss: the error names the first part of the state."""
    window = Window(Checkpoints(tmp_path), ["params/a", "params/b"])
    window.add(1, _plain(2.0))
    window.add(2, Guarded(_Metrics(1.0), np.array([False, True])))
    message = "step 2: the gradient of params/b is not finite: .* no checkpoint yet"
    with pytest.raises(cli.UserError, match=message):
        window.rows()


def test_skipped_steps_are_counted(window):
    """As a share of the steps, of which the others alone make the other means."""
    for step, one in enumerate([_made(2.0), _skipped(np.nan), _made(4.0), _made(6.0)]):
        window.add(step, one)
    assert window.mean() == _Metrics(4.0, skipped=0.25)


def test_skipped_steps_are_told(tmp_path, capsys):
    """Once for all that are fetched together, with what was wrong in the first."""
    window = Window(Checkpoints(tmp_path), ["params/a", "params/b"])
    for step, one in enumerate([_made(2.0), _skipped(np.inf), _skipped(1.0)]):
        window.add(step, one)
    for _ in range(2):
        window.fetch()
    window.add(3, _skipped(1.0))
    window.fetch()
    assert capsys.readouterr().err.splitlines() == [
        "warning: step 1 is skipped, and 1 more: loss is inf. There is no checkpoint"
        " yet.",
        "warning: step 3 is skipped: the gradient of params/b is not finite. There is"
        " no checkpoint yet.",
    ]


@pytest.mark.parametrize(
    ("loss", "what"),
    [(np.inf, "loss is inf"), (1.0, "the gradient of params/b is not finite")],
)
def test_too_many_skipped_in_a_row(tmp_path, loss, what):
    """Ten are an error that names what went wrong; nine, and one made, are none."""
    window = Window(Checkpoints(tmp_path), ["params/a", "params/b"])
    for step in range(1, 30):
        window.add(step, _made(1.0) if step % 10 == 0 else _skipped(loss))
    window.fetch()
    for step in range(30, 40):
        window.add(step, _skipped(loss))
    message = f"step 30: {what}, and 10 steps in a row were skipped: the run has diverg"
    with pytest.raises(cli.UserError, match=message):
        window.fetch()
