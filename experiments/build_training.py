"""From a config to how a model is trained: recipe, schedules and optimiser."""

import functools

import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from experiments.run import config as run_config
from lavae_jax.training import optimizer as optimizers
from lavae_jax.training import recipe as recipes
from lavae_jax.training import schedules
from lavae_jax.warmup import OBJECT_SIZE


def object_size(config: ConfigDict) -> int:
    """The side of most objects, in pixels, which the warm-up's lengths follow."""
    # The configs of the named data sets, whose objects have this size, do not state it.
    return config.warmup.get("object_size", OBJECT_SIZE)


def train_dtype(config: ConfigDict) -> DTypeLike:
    """What layers compute in while they are trained; elsewhere it is float32."""
    return jnp.dtype(config.precision)


def build_schedules(config: ConfigDict) -> schedules.Schedules:
    """Everything that changes during training."""
    c, warmup, joint = config.model, config.warmup, run_config.ends(config).joint_steps
    return schedules.Schedules(
        tau=schedules.exponential(warmup.tau_init, warmup.tau_final, warmup.tau_steps),
        epsilon=schedules.exponential(
            c.epsilon_init, c.epsilon, warmup.epsilon_steps or joint
        ),
        force_one_prob=schedules.hold_then_linear(
            warmup.force_one_init,
            warmup.force_one_final,
            warmup.hold_steps,
            warmup.fade_steps,
        ),
        location_weight=schedules.hold_then_linear(
            warmup.location_weight,
            warmup.location_weight_final,
            warmup.hold_steps,
            warmup.fade_steps,
        ),
        bump_sigma=schedules.hold_then_linear(
            warmup.bump_sigma_init,
            warmup.bump_sigma_final,
            warmup.hold_steps,
            warmup.fade_steps,
        ),
    )


def warmup_steps(config: ConfigDict) -> int:
    """The step after which LAVAE is trained as it will be from then on."""
    w = config.warmup
    ends = (w.hold_steps + w.fade_steps, w.auxiliary_steps, w.lead_steps)
    return max(*ends, w.proposal_steps)


def build_recipe(config: ConfigDict) -> recipes.Recipe:
    """The rest of how LAVAE is trained."""
    w, ends = config.warmup, run_config.ends(config)
    return recipes.Recipe(
        draws=w.draws,
        target=w.target,
        refine=w.refine,
        bump_height=w.bump_height,
        auxiliary_steps=w.auxiliary_steps,
        lead_steps=w.lead_steps,
        proposal_steps=w.proposal_steps,
        settle_steps=w.settle_steps,
        location_every=w.location_every,
        appearance_updates=w.appearance_updates,
        joint_steps=ends.joint_steps if config.touching.steps else None,
        importance_after=ends.importance_after if config.importance.steps else None,
        importance_samples=config.importance.num_samples,
        importance_elbo=config.importance.elbo_share,
        object_size=object_size(config),
        orphans=w.orphans,
    )


def build_optimizer(config: ConfigDict) -> optimizers.Optimizer:
    """One optimiser per part, with its own learning rate."""
    c = config.optimizer
    rate_of = functools.partial(learning_rate, c)
    lead, (joint, last, _) = config.warmup.lead_steps, run_config.ends(config)
    location = schedules.exponential(
        c.location_learning_rate,
        c.location_learning_rate * c.location_final_factor,
        c.location_decay_steps,
    )
    if c.decay == "cosine":
        location = rate_of(c.location_learning_rate, lead, joint - lead)
    rest = rate_of(c.learning_rate, lead, joint - lead)
    if config.touching.steps:
        alone = rate_of(config.touching.learning_rate, 0, config.touching.steps)
        location = optax.join_schedules([location, alone], [joint])
    if config.importance.steps:
        alone = rate_of(config.importance.learning_rate, 0, config.importance.steps)
        rest = optax.join_schedules([rest, alone], [last])
    rates = optimizers.Parts(
        location=location,
        rest=rest,
        auxiliary=rate_of(c.auxiliary_learning_rate, 0, config.warmup.auxiliary_steps),
    )
    return optimizers.make_optimizer(transform(c), rates, c.clip_norm)


def learning_rate(c: ConfigDict, rate: float, start: int, steps: int) -> optax.Schedule:
    """The schedule of a part that is trained for `steps` steps after `start`."""
    if c.decay == "constant":
        return optax.constant_schedule(rate)
    cosine = optax.warmup_cosine_decay_schedule(
        0.0, rate, c.rise_steps, max(steps, c.rise_steps + 1), rate * c.final_factor
    )
    return optax.join_schedules([optax.constant_schedule(0.0), cosine], [start])


def transform(c: ConfigDict) -> optax.GradientTransformation:
    """The optimiser's update for a learning rate of -1."""
    return {"adamax": optax.scale_by_adamax, "adam": optax.scale_by_adam}[c.name]()
