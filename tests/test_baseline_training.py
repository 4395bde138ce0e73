"""The baseline's train step: its loss, and the same on one device and on several."""

import functools

import jax
import numpy as np
import optax
import pytest

from lavae_jax.baseline import BaselineVAE
from lavae_jax.training import baseline as training
from tests import tiny_models

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

SHAPE = (16, 8, 2)
BETA = optax.linear_schedule(0.25, 0.75, 2)
# Unlike Adam's, updates are proportional to gradients, so that errors show.
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1e-2))


def _model(norm, axis_name=None):
    return BaselineVAE(
        SHAPE,
        latent_channels=2,
        channels=3,
        norm=norm,
        stem_stride=8,
        upsampling="shuffle",
        epsilon=1e-2,
        axis_name=axis_name,
    )


@functools.cache
def _step(norm, num_devices):
    axis_name = None if num_devices == 1 else "batch"
    step = training.make_train_step(_model(norm, axis_name), OPTIMIZER, BETA)
    if num_devices == 1:
        return jax.jit(step)
    devices = jax.devices()[:num_devices]
    return jax.pmap(step, axis_name, in_axes=(None, 0), out_axes=None, devices=devices)


@functools.cache
def _start(norm):
    """A state in which every part has something to do."""
    model = _model(norm)
    fresh = training.init_state(model, OPTIMIZER, jax.random.key(0))
    variables = tiny_models.random_variables(model, scale=0.3)
    return fresh._replace(
        params=variables["params"], batch_stats=variables.get("batch_stats", {})
    )


def _run(norm, num_steps, num_devices=1):
    images = (255 * tiny_models.binary_images(_model(norm), 8)).astype(np.uint8)
    if num_devices > 1:
        images = images.reshape(num_devices, -1, *SHAPE)
    state, metrics = _start(norm), []
    for _ in range(num_steps):
        state, measured = _step(norm, num_devices)(state, images)
        metrics.append(jax.device_get(measured))
    return state._replace(key=None), metrics


def test_devices_make_the_same_steps():
    """Parameters, batch statistics and metrics of two steps, up to the order of sums.

    Draws must be the same for that. The loss is β KL − log p(x | z) with the β of its
    step.
    """
    one, four = _run("batch", 2), _run("batch", 2, num_devices=4)
    assert one[0].step == 2
    for step, m in enumerate(one[1]):
        assert m.beta == pytest.approx(0.25 + 0.25 * step)
        assert m.loss == pytest.approx(m.beta * m.kl - m.log_px, rel=1e-5)
        assert m.elbo == pytest.approx(m.log_px - m.kl, rel=1e-5)
    start = _start("batch")
    for before, after in (
        (start.params, one[0].params),
        (start.batch_stats, one[0].batch_stats),
    ):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
        assert max(jax.tree.leaves(moved["encoder"])) > 1e-4
        assert max(jax.tree.leaves(moved["decoder"])) > 1e-4
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), four, one
    )
