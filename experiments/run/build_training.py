"""Builds from a config how a model is trained: recipe, schedules and optimiser."""

import optax
from ml_collections import ConfigDict

from lavae_jax.training import optimizer as optimizers
from lavae_jax.training import recipe as recipes
from lavae_jax.training import schedules


def build_schedules(config: ConfigDict) -> schedules.Schedules:
    """Builds the schedules of training besides the learning rates."""
    c, elbo, warmup = config.model, config.elbo, warmup_steps(config)
    tau = schedules.exponential(elbo.tau_init, elbo.tau_final, elbo.tau_steps)
    return schedules.Schedules(
        tau=optax.join_schedules(
            [optax.constant_schedule(elbo.tau_init), tau], [warmup]
        ),
        noise=_noise(c, config.num_steps - config.tighten.steps),
    )


def _noise(c, steps):
    """Returns the schedule of ε or σ, or None where the model learns σ."""
    if c.pixels == "bernoulli":
        return schedules.exponential(c.epsilon_init, c.epsilon, steps)
    return schedules.exponential(c.sigma_init, c.sigma, steps) if c.sigma else None


def warmup_steps(config: ConfigDict) -> int:
    """Returns `Recipe.warmup_steps` of a config."""
    return build_recipe(config).warmup_steps


def build_recipe(config: ConfigDict) -> recipes.Recipe:
    """Builds the other settings of LAVAE's training."""
    # Fields of the recipe have the names that the warm-up and the ELBO have in configs.
    values = {**config.warmup, **config.elbo}
    fields = {name: values[name] for name in recipes.Recipe._fields if name in values}
    tighten = config.tighten
    return recipes.Recipe(
        **fields,
        tighten_after=config.num_steps - tighten.steps if tighten.steps else None,
        tighten_draws=tighten.num_draws,
        tighten_elbo=tighten.elbo_share,
    )


def build_optimizer(config: ConfigDict) -> optimizers.Optimizer:
    """Builds one optimiser per part, with its own learning rate."""
    c, tighten, warmup = config.optimizer, config.tighten, warmup_steps(config)
    last = config.num_steps - tighten.steps
    location = schedules.exponential(
        c.location_learning_rate,
        c.location_learning_rate * c.location_final_factor,
        c.location_decay_steps,
    )
    if c.decay == "cosine":
        location = learning_rate(c, c.location_learning_rate, last - warmup)
    first = optax.constant_schedule(c.warmup_learning_rate)
    rest = [
        first,
        learning_rate(c, c.learning_rate, last - warmup),
        learning_rate(c, tighten.learning_rate, tighten.steps),
    ]
    rates = optimizers.Parts(
        location=optax.join_schedules([first, location], [warmup]),
        rest=optax.join_schedules(rest, [warmup, last]),
        prior=optax.join_schedules(rest, [warmup, last]),
        auxiliary=learning_rate(
            c, c.warmup_learning_rate, config.warmup.auxiliary_steps
        ),
    )
    return optimizers.make_optimizer(transform(c), rates, c.clip_norm)


def learning_rate(c: ConfigDict, rate: float, steps: int) -> optax.Schedule:
    """Returns the schedule of a part of a run that lasts so many steps."""
    if c.decay == "constant":
        return optax.constant_schedule(rate)
    return optax.warmup_cosine_decay_schedule(
        0.0, rate, c.rise_steps, max(steps, c.rise_steps + 1), rate * c.final_factor
    )


def transform(c: ConfigDict) -> optax.GradientTransformation:
    """Returns the optimiser's update for a learning rate of -1."""
    return {"adamax": optax.scale_by_adamax, "adam": optax.scale_by_adam}[c.name]()
