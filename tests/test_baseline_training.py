"""The baseline's train step has its loss, and is the same on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lavae_jax.baseline import BaselineVAE
from lavae_jax.training import baseline as training
from lavae_jax.training.state import TrainState
from tests import tiny_models
from tests.tiny_steps import assert_same_moves

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

SHAPE = (16, 8, 2)
BETA = optax.linear_schedule(0.25, 0.75, 2)
# Unlike Adam's, updates are proportional to gradients, so that errors show.
OPTIMIZER = optax.sgd(1e-4)


def _model(axis_name=None):
    return BaselineVAE(
        SHAPE,
        latent_channels=2,
        channels=3,
        norm="batch",
        stem_stride=8,
        upsampling="shuffle",
        epsilon=1e-2,
        axis_name=axis_name,
    )


def _start():
    """Makes a state in which every part has something to do."""
    variables = tiny_models.random_variables(_model(), scale=0.3)
    opt_state = OPTIMIZER.init(variables["params"])
    key = jax.random.key(0)
    return TrainState(
        jnp.int32(0), variables["params"], variables["batch_stats"], opt_state, key
    )


def _two_steps(step, images):
    """Makes two steps; returns the state after them and the metrics of both."""
    state, metrics = _start(), []
    for _ in range(2):
        state, measured = step(state, images)
        metrics.append(jax.device_get(measured))
    return state._replace(key=None), metrics


def test_devices_make_the_same_steps():
    """One device and four make the same two steps, up to the order of sums.

    Parameters, batch statistics, metrics and hence draws agree. The loss is
    β KL − log p(x | z) with the β of its step.
    """
    images = (255 * tiny_models.binary_images(_model(), 8)).astype(np.uint8)
    alone, together = (
        training.make_train_step(_model(axis_name), OPTIMIZER, BETA)
        for axis_name in (None, "batch")
    )
    together = jax.pmap(together, "batch", in_axes=(None, 0), out_axes=None)
    one = _two_steps(jax.jit(alone), images)
    four = _two_steps(together, images.reshape(4, -1, *SHAPE))
    assert one[0].step == 2
    for step, m in enumerate(one[1]):
        assert m.beta == pytest.approx(0.25 + 0.25 * step)
        assert m.loss == pytest.approx(m.beta * m.kl - m.log_px, rel=1e-5)
        assert m.elbo == pytest.approx(m.log_px - m.kl, rel=1e-5)
    start = _start()
    for before, after in (
        (start.params, one[0].params),
        (start.batch_stats, one[0].batch_stats),
    ):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
        assert max(jax.tree.leaves(moved["encoder"])) > 1e-4
        assert max(jax.tree.leaves(moved["decoder"])) > 1e-4
    for name in ("params", "batch_stats"):
        assert_same_moves(*(getattr(x, name) for x in (four[0], one[0], start)))
    np.testing.assert_allclose(four[1], one[1], rtol=1e-4)
