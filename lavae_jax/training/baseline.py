"""The baseline's train step: a pure function of state and images, as LAVAE's."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from lavae_jax import baseline
from lavae_jax.images import to_float
from lavae_jax.training.keys import image_keys
from lavae_jax.training.state import TrainState, fresh_state, init_variables
from lavae_jax.types import Array


class BaselineMetrics(NamedTuple):
    """Means over the batch, []; nats per image where not stated otherwise."""

    loss: Array
    elbo: Array
    log_px: Array
    kl: Array
    beta: Array  # the weight of the KL in the loss


def init_state(
    model: baseline.BaselineVAE, optimizer: optax.GradientTransformation, key: Array
) -> TrainState:
    """Makes a fresh state from a single key."""
    key_model, key_run = jax.random.split(key)
    x = jnp.zeros((1, *model.image_shape), jnp.float32)
    variables = init_variables(model, key_model, x)
    return fresh_state(variables, variables["params"], optimizer, key_run)


def make_train_step(
    model: baseline.BaselineVAE,
    optimizer: optax.GradientTransformation,
    beta: optax.Schedule,
) -> Callable[[TrainState, Array], tuple[TrainState, BaselineMetrics]]:
    """Makes the train step, which descends on β KL − log p(x | z).

    The model's `axis_name` is the mapped axis of devices, or None. The optimiser
    contains its learning rate, and `beta` is β as a schedule of the step. From a state
    and images, [B, H, W, C], the train step makes the next state and metrics.
    """

    def average(tree):
        return tree if model.axis_name is None else lax.pmean(tree, model.axis_name)

    def loss(params, state, x, keys):
        def forward(bound):
            return baseline.elbo(bound, x, keys, train=True)

        terms, updates = nn.apply(forward, model, mutable=["batch_stats"])(
            {"params": params, "batch_stats": state.batch_stats}
        )
        log_px, kl = terms.log_px.mean(), terms.kl.mean()
        weight = jnp.asarray(beta(state.step), jnp.float32)
        value = weight * kl - log_px
        metrics = BaselineMetrics(value, log_px - kl, log_px, kl, weight)
        return value, (metrics, updates.get("batch_stats", {}))

    def train_step(state, images):
        x = to_float(images)
        key = jax.random.fold_in(state.key, state.step)
        keys = image_keys(key, x.shape[0], model.axis_name)
        grads, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(
            state.params, state, x, keys
        )
        updates, opt_state = optimizer.update(
            average(grads), state.opt_state, state.params
        )
        state = state._replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, average(metrics)

    return train_step
