"""Builds an experiment from a config: a model, its train steps, its measurement."""

import collections
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import lavae_jax
from experiments.run import limits
from experiments.run.build_training import (
    build_optimizer,
    build_recipe,
    build_schedules,
    learning_rate,
    transform,
    warmup_steps,
)
from lavae_jax import baseline, diagnostics, objectives, plotting
from lavae_jax import config as model_configs
from lavae_jax.config import is_baseline
from lavae_jax.images import to_float
from lavae_jax.inference import Model
from lavae_jax.training import baseline as baseline_training
from lavae_jax.training import recipe as recipes
from lavae_jax.training import state, step
from lavae_jax.training.keys import image_keys
from lavae_jax.training.setup import Setup
from lavae_jax.warmup import PEAK_NATS, AuxiliaryVAE, cell_for, kl_peaks

_SHOWN = (
    *("loss", "elbo", "log_px", "kl_app", "kl_loc", "kl_n", "kl_background"),
    *("bound", "objects"),
)
_NUM_PICTURED = 8


class Experiment(NamedTuple):
    """A model, and how it is trained, shown and measured."""

    model: Model  # LAVAE or the baseline, in float32
    init: Callable[[jax.Array], Any]  # maps a key to a fresh state
    # Maps the number of a step, counted from 1, to the function that makes it, which
    # maps a state and images to the next state and a NamedTuple of scalars.
    train_step_at: Callable[[int], Callable[..., Any]]
    shown: tuple[str, ...]  # names of those scalars that go to the terminal
    # Maps a state and images to a picture of what the model infers from them, or at
    # the beginning of the warm-up of where the auxiliary VAE sees objects.
    draw: Callable[[Any, np.ndarray], Figure]
    # Maps a state, held-out images and their true n, or None if it is not known, to a
    # NamedTuple of results per image, each [B] or None, whose means are reported.
    measure: Callable[..., Any]
    # Maps the number of a step and these means to warnings for the user.
    warnings: Callable[[int, Any], Sequence[str]]


HeldOutScenes = collections.namedtuple(
    "HeldOutScenes",
    (*diagnostics.Diagnosis._fields, "elbo", *objectives.ElboTerms._fields),
)
"""Holds what is measured on scenes that LAVAE is not trained on, [B] each.

The ELBO and its terms are nats. The ELBO of training batches is no substitute: they
contain superposed scenes, and use the draws of training.
"""


class HeldOutElbo(NamedTuple):
    """Holds measures of scenes that the baseline is not trained on: nats, [B]."""

    elbo: jax.Array
    log_px: jax.Array
    kl: jax.Array


def first_lit(images: np.ndarray) -> np.ndarray:
    """Picks the first images [N, H, W, C] for a picture; black ones come last."""
    is_black = ~images.any(axis=(1, 2, 3))
    return images[np.argsort(is_black, kind="stable")[:_NUM_PICTURED]]


def draw(model: Model, variables: dict[str, Any], images: np.ndarray) -> Figure:
    """Draws images [B, H, W, C], and beside them what a model infers from them."""
    if not isinstance(model, lavae_jax.LAVAE):
        means = lavae_jax.reconstruct(model, variables, images)
        rows = list(zip(images, means, strict=True))
        return plotting.grid(rows, column_labels=["input", "reconstruction"])
    scene = lavae_jax.infer(model, variables, images)
    means = lavae_jax.render(model, variables, scene)
    sprites = lavae_jax.sprites(model, variables, scene)
    return plotting.reconstructions(images, means, scene, sprites)


def draw_warmup(
    model: lavae_jax.LAVAE,
    auxiliary: AuxiliaryVAE,
    train_state: state.TrainState,
    images: np.ndarray,
    object_size: int,
) -> Figure:
    """Draws images [B, H, W, C] beside their KL maps and the peaks of these.

    A map is shown from 0 to its largest value or 1 nat, and a peak as a square of 3×3
    pixels.
    """
    x = to_float(images, model.is_binary)
    found = _find_peaks(model, auxiliary, object_size, train_state, x)
    maps, centres, valid = jax.device_get(found)
    brightest = np.maximum(maps.max(axis=(1, 2), keepdims=True), PEAK_NATS)
    shown = np.clip(maps / brightest, 0, 1)[..., None]
    sites = plotting.location_maps(np.rint(centres).astype(int), valid, maps.shape[1:])
    rows = list(zip(images, shown, sites, strict=True))
    return plotting.grid(rows, column_labels=["input", "KL map", "peaks"])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _find_peaks(model, auxiliary, object_size, train_state, x):
    """Computes KL maps [B, H, W], and the positions of their peaks."""
    variables = {"params": train_state.params["auxiliary"]}
    behind = model.bind(train_state.variables).inferred_background(x)
    behind = jnp.broadcast_to(0.0 if behind is None else behind, x.shape)
    kl_map = auxiliary.apply(variables, x, behind, method="kl_map")
    return kl_map, *kl_peaks(kl_map, model.max_objects, object_size)


def build_model(
    config: ConfigDict,
    axis_name: str | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Model:
    """Builds the model of a run's config; see `lavae_jax.build_model`."""
    model_config = model_configs.from_run(config.to_dict())
    return lavae_jax.build_model(model_config, axis_name, dtype)


def _same_keys(num_images: int) -> jax.Array:
    """Returns keys that are the same at every step, so that steps can be compared."""
    return image_keys(jax.random.key(0), num_images, None)


def build(config: ConfigDict, axis_name: str | None = None) -> Experiment:
    """Builds what a config describes.

    The train step averages over the axis of this name, if there is one.
    """
    limits.check(config)
    build_kind = _build_baseline if is_baseline(config) else _build_lavae
    return build_kind(config, axis_name)


def _build_lavae(config: ConfigDict, axis_name: str | None) -> Experiment:
    dtype = jnp.dtype(config.precision)  # all but the train step is float32
    model, single = build_model(config, axis_name, dtype), build_model(config)
    warmup, num_channels = config.warmup, config.model.image_shape[2]
    sizes = warmup.auxiliary_latents, warmup.auxiliary_channels
    auxiliary = AuxiliaryVAE(
        num_channels,
        *sizes,
        cell_for(warmup.object_size),
        model.pixels,
        model.background_net is not None,
        dtype,
    )
    optimizer, recipe = build_optimizer(config), build_recipe(config)
    setup = Setup(model, auxiliary, optimizer, build_schedules(config), recipe)

    def init(key: jax.Array) -> state.TrainState:
        return state.init_state(single, auxiliary, optimizer, key)

    def measure(
        train_state: state.TrainState, images: Any, n: jax.Array | None
    ) -> HeldOutScenes:
        variables = train_state.variables
        diagnosis = diagnostics.measure(single, variables, images, n)
        keys = _same_keys(len(images))
        terms = objectives.elbo(
            single, variables, to_float(images, model.is_binary), keys
        )
        return HeldOutScenes(*diagnosis, terms.elbo, *terms)

    def draw_state(train_state: state.TrainState, images: np.ndarray) -> Figure:
        if train_state.step > recipe.auxiliary_steps:
            return draw(single, train_state.variables, images)
        size = warmup.object_size
        return draw_warmup(single, auxiliary, train_state, images, size)

    def warnings(number: int, means: HeldOutScenes) -> Sequence[str]:
        return () if number <= warmup_steps(config) else diagnostics.warnings(means)

    @functools.cache
    def train_step_of(stage: recipes.Stage):
        return step.make_train_step(setup, stage)

    return Experiment(
        model=single,
        init=init,
        train_step_at=lambda number: train_step_of(recipes.stage_at(recipe, number)),
        shown=_SHOWN,
        draw=draw_state,
        measure=measure,
        warnings=warnings,
    )


def _build_baseline(config: ConfigDict, axis_name: str | None) -> Experiment:
    model = build_model(config, axis_name, jnp.dtype(config.precision))
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

    def measure(
        train_state: state.TrainState, images: Any, n: jax.Array | None
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
        draw=lambda train_state, images: draw(single, train_state.variables, images),
        measure=measure,
        warnings=lambda number, held_out: (),
    )
