"""From a config to modules and train step."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

import lavae_jax
from experiments.own import data as own_data
from experiments.run import limits, views
from experiments.run.build_training import (
    build_optimizer,
    build_recipe,
    build_schedules,
    learning_rate,
    object_size,
    train_dtype,
    transform,
    warmup_steps,
)
from experiments.run.experiment import Experiment
from lavae_jax import baseline, diagnostics, objectives
from lavae_jax import config as model_configs
from lavae_jax.config import is_baseline
from lavae_jax.images import to_float
from lavae_jax.inference import Model
from lavae_jax.training import baseline as baseline_training
from lavae_jax.training import recipe as recipes
from lavae_jax.training import state, step
from lavae_jax.training.keys import image_keys
from lavae_jax.warmup import AuxiliaryVAE, cell_for

_SHOWN = (
    *("loss", "elbo", "log_px", "kl_app", "kl_loc", "kl_n", "bound"),
    *("objects", "tau"),
)


class HeldOutScenes(NamedTuple):
    """What is measured on scenes that LAVAE is not trained on, [B] each.

    The first five are those of `diagnostics.Seen`. The others are nats, as in
    `ElboTerms`, None for the named data sets, whose counts say more.
    """

    count_accuracy: Any = None
    uncounted: Any = None
    overcounted: Any = None
    blank: Any = None
    split: Any = None
    elbo: Any = None
    log_px: Any = None
    kl_app: Any = None
    kl_loc: Any = None
    kl_n: Any = None


class HeldOutElbo(NamedTuple):
    """What is measured on scenes that the baseline is not trained on: nats, [B]."""

    elbo: jax.Array
    log_px: jax.Array
    kl: jax.Array


def build_model(
    config: ConfigDict,
    axis_name: str | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Model:
    """The model of a run's config; see `lavae_jax.build_model`."""
    model_config = model_configs.from_run(config.to_dict())
    return lavae_jax.build_model(model_config, axis_name, dtype)


def build_auxiliary(config: ConfigDict) -> AuxiliaryVAE:
    """The warm-up's VAE, as it is trained."""
    return AuxiliaryVAE(
        config.model.image_shape[2],
        cell=cell_for(object_size(config)),
        dtype=train_dtype(config),
    )


def _same_keys(num_images: int) -> jax.Array:
    """The same draws at every step, so that steps can be compared."""
    return image_keys(jax.random.key(0), num_images, None)


def build(config: ConfigDict, axis_name: str | None = None) -> Experiment:
    """Builds what a config describes.

    Args:
        config: a run's config.
        axis_name: the axis that the train step averages over, None on one device.

    Raises:
        ValueError: for values that no model can be built from.
    """
    limits.check(config)
    build_kind = _build_baseline if is_baseline(config) else _build_lavae
    return build_kind(config, axis_name)


def _build_lavae(config: ConfigDict, axis_name: str | None) -> Experiment:
    model = build_model(config, axis_name, train_dtype(config))
    auxiliary = build_auxiliary(config)
    optimizer = build_optimizer(config)
    recipe = build_recipe(config)
    single = build_model(config)

    def init(key: jax.Array) -> state.TrainState:
        return state.init_state(single, auxiliary, optimizer, key)

    def look(train_state: state.TrainState, images: Any) -> views.SceneView:
        return views.look(single, train_state.variables, images)

    def measure(
        train_state: state.TrainState, images: Any, n: jax.Array | None
    ) -> HeldOutScenes:
        variables = train_state.variables
        found = diagnostics.measure(single, variables, images, n)._asdict()
        if own_data.is_own(config):
            keys = _same_keys(len(images))
            terms = objectives.elbo(single, variables, to_float(images), keys)
            found |= {"elbo": terms.elbo, **terms._asdict()}
        return HeldOutScenes(**found)

    def warnings(number: int, seen: HeldOutScenes) -> Sequence[str]:
        return () if number <= warmup_steps(config) else diagnostics.warnings(seen)

    of_phase = functools.cache(
        functools.partial(
            step.make_train_step,
            model,
            auxiliary,
            optimizer,
            build_schedules(config),
            recipe,
        )
    )
    return Experiment(
        model=single,
        init=init,
        train_step_at=lambda number: of_phase(recipes.stage_at(recipe, number)),
        shown=_SHOWN,
        look=look,
        measure=measure,
        warnings=warnings,
    )


def _build_baseline(config: ConfigDict, axis_name: str | None) -> Experiment:
    model = build_model(config, axis_name, train_dtype(config))
    single, c = build_model(config), config.optimizer
    optimizer = optax.chain(
        optax.clip_by_global_norm(c.clip_norm),
        transform(c),
        optax.scale_by_learning_rate(
            learning_rate(c, c.learning_rate, config.num_steps)
        ),
    )
    beta = optax.linear_schedule(config.beta.init, config.beta.final, config.beta.steps)
    train_step = baseline_training.make_train_step(model, optimizer, beta)

    def look(
        train_state: baseline_training.BaselineState, images: Any
    ) -> views.ImageView:
        return views.look(single, train_state.variables, images)

    def measure(
        train_state: baseline_training.BaselineState, images: Any, n: jax.Array | None
    ) -> HeldOutElbo:
        del n  # it has no objects to count
        bound = single.bind(train_state.variables)
        terms = baseline.elbo(bound, to_float(images), _same_keys(len(images)))
        return HeldOutElbo(terms.elbo, terms.log_px, terms.kl)

    return Experiment(
        model=single,
        init=functools.partial(baseline_training.init_state, single, optimizer),
        train_step_at=lambda number: train_step,
        shown=baseline_training.BaselineMetrics._fields,
        look=look,
        measure=measure,
        warnings=lambda number, held_out: (),
    )
