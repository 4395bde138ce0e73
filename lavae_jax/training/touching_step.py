"""Steps late in a run that teach h_loc to tell touching objects apart."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import refinement, touching, warmup
from lavae_jax.objectives import Reconstruction, reconstruct
from lavae_jax.training import locating
from lavae_jax.training.locating import Setup
from lavae_jax.training.metrics import TrainMetrics, of_target, of_terms
from lavae_jax.training.optimizer import Parts, split
from lavae_jax.training.state import TrainState, restarted
from lavae_jax.types import Array, Variables


def _seen(
    setup: Setup, state: TrainState, x: Array, keys: Array
) -> tuple[Reconstruction, refinement.Target]:
    """How the model sees the images, and where it would rather have its objects."""
    model, step = setup.model.bind(state.variables), state.step
    key_loc, key_app = jax.vmap(jax.random.split)(keys).T
    h_loc = model.location_logits(x)
    n = model.count(h_loc)
    locations = locating.locations(setup, step, h_loc, n, key_loc, None)
    epsilon = setup.schedules.epsilon(step)
    result = reconstruct(model, x, locations, n, key_app, epsilon)
    recipe = setup.recipe
    target = refinement.refine(
        model, x, result, epsilon, recipe.object_size, recipe.orphans
    )
    return result, target


def _location_loss(
    location: Variables, setup: Setup, state: TrainState, scenes: touching.Placed
):
    """The squared loss on h_loc; a function of the location network's parameters."""
    variables = {
        "params": {**state.params["lavae"], "location_net": location},
        "batch_stats": state.batch_stats,
    }
    h_loc, updates = nn.apply(
        lambda model: model.location_logits(scenes.x, train=True),
        setup.model,
        mutable=["batch_stats"],
    )(variables)
    sigma = setup.schedules.bump_sigma(state.step)
    height = setup.recipe.bump_height
    target = warmup.bumps(
        scenes.centres, scenes.valid, height, sigma, scenes.x.shape[1:3]
    )
    error = ((h_loc / setup.model.gamma - target) ** 2).sum(axis=(1, 2)).mean()
    weight = setup.schedules.location_weight(state.step)
    batch_stats = {**state.batch_stats, **updates.get("batch_stats", {})}
    return weight * error, (error, batch_stats)


def touching_step(
    setup: Setup, state: TrainState, x: Array, keys: Array
) -> tuple[TrainState, Parts, Variables, TrainMetrics]:
    """What a step on touching scenes changes: h_loc and nothing else.

    Args:
        setup: of the train step.
        state: with which the step begins.
        x: binary images of this device, [B, H, W, C].
        keys: [B], one per image.

    Returns:
        The state, with fresh moments in the first of these steps, gradients by part,
        batch statistics and metrics.
    """
    state = restarted(state, setup.optimizer, "location", setup.recipe.joint_steps)
    keys_seen, keys_touch = jax.vmap(jax.random.split)(keys).T
    result, target = _seen(setup, state, x, keys_seen)
    scenes = touching.Placed(x, target.centres, target.valid)
    others, axis_name = scenes, setup.model.axis_name
    if axis_name is not None:
        others = lax.all_gather(scenes, axis_name, tiled=True)
    scenes, added = touching.make_touch(scenes, others, keys_touch)
    (loss, (error, batch_stats)), grad = jax.value_and_grad(
        _location_loss, has_aux=True
    )(split(state.params).location, setup, state, scenes)
    metrics = of_terms(TrainMetrics(loss), result.terms, result.locations.active)
    metrics = of_target(metrics, target)
    metrics = metrics._replace(
        location_loss=error,
        touching=added.astype(jnp.float32).mean(),
        epsilon=jnp.asarray(setup.schedules.epsilon(state.step), jnp.float32),
    )
    return state, Parts(grad, None, None), batch_stats, metrics
