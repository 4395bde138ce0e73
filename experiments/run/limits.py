"""What the values of a config may be, checked before anything is computed.

The checks raise a ValueError that names the value and says what is possible.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from lavae_jax.baseline import CELL
from lavae_jax.config import is_baseline

CHOICES = {
    "precision": ("float32", "bfloat16"),
    "model.norm": ("batch", "none"),
    "model.appearance_net": ("trunk", "glimpse"),
    "model.sprite_net": ("conv", "mlp"),
    "model.composite_method": ("auto", "conv", "fft"),
    "model.upsampling": ("bilinear", "shuffle"),
    "optimizer.name": ("adamax", "adam"),
    "optimizer.decay": ("constant", "cosine"),
    "warmup.target": ("bumps", "kl_map"),
    "elbo.draws": ("score", "relaxed", "straight_through"),
}
"""The values that a name stands for one of."""

AT_LEAST = {
    "model.max_objects": 1,
    "model.app_dim": 1,
    "model.channels": 1,
    "model.location_hidden": 1,
    "model.width": 1,
    "model.stem_stride": 1,
    "model.exclusion_radius": 0,
    "model.latent_channels": 1,
    "model.resample_size": 2,
    "beta.init": 0,
    "beta.final": 0,
    "beta.steps": 1,
    "optimizer.rise_steps": 0,
    "warmup.location_weight": 0,
    "warmup.auxiliary_steps": 0,
    "warmup.guided_steps": 0,
    "warmup.object_size": 1,
    "elbo.tau_steps": 1,
    "elbo.num_draws": 1,
    "elbo.location_every": 1,
    "elbo.appearance_updates": 0,
    "elbo.wake_weight": 0,
    "tighten.steps": 0,
    "tighten.num_draws": 1,
}
"""The least values of counts and weights."""

POSITIVE = (
    "model.gamma",
    "model.count_threshold",
    "model.objects_per_image",
    "model.location_scale",
    "optimizer.learning_rate",
    "optimizer.location_learning_rate",
    "optimizer.location_final_factor",
    "optimizer.location_decay_steps",
    "optimizer.warmup_learning_rate",
    "optimizer.clip_norm",
    "optimizer.final_factor",
    "tighten.learning_rate",
    "warmup.bump_height",
    "warmup.bump_sigma",
    "elbo.tau_init",
    "elbo.tau_final",
    "elbo.count_temperature",
    "elbo.advantage_limit",
)
"""Numbers above 0."""

BELOW_A_HALF = ("model.epsilon", "model.epsilon_init")
"""Numbers between 0 and 0.5, neither included."""

BELOW_ONE = ("optimizer.b2",)
"""Numbers between 0 and 1, neither included."""

MAX_SEED = 2**32 - 1
"""The largest seed that the shuffling of the data takes."""

SHARES = ("elbo.superpose", "tighten.elbo_share")
"""Numbers from 0 to 1."""

ODD = ("model.sprite_size", "model.glimpse_size")
"""Sides of windows that have a pixel in the middle."""


def _values(config: ConfigDict, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Names and values; LAVAE and the baseline have some of all there are."""
    for name in names:
        section, _, field = name.rpartition(".")
        values = config.get(section, {}) if section else config
        if field in values:
            yield name, values[field]


def check_counts(config: ConfigDict, num_devices: int) -> None:
    """Refuses counts that no run can have."""
    names = ("num_steps", "batch_size", "log_every", "eval_every", "picture_every")
    for name in (*names, "checkpoint_every"):
        if config[name] < 1:
            raise ValueError(f"{name} must be at least 1: got {config[name]}.")
    if config.batch_size % num_devices:
        raise ValueError(
            f"batch_size must be a multiple of the {num_devices} devices: got"
            f" {config.batch_size}."
        )


def check(config: ConfigDict) -> None:
    """Refuses values that no model can be built from or trained with."""
    _check_open(config)
    if not 0 <= config.seed <= MAX_SEED:
        raise ValueError(f"seed must be from 0 to {MAX_SEED}: got {config.seed}.")
    for name, value in _values(config, CHOICES):
        if value not in CHOICES[name]:
            choices = ", ".join(CHOICES[name])
            raise ValueError(f"{name} must be one of {choices}: got {value}.")
    for name, value in _values(config, AT_LEAST):
        if not AT_LEAST[name] <= value < math.inf:
            raise ValueError(f"{name} must be at least {AT_LEAST[name]}: got {value}.")
    for names, is_valid, wanted in (
        (POSITIVE, lambda value: 0 < value < math.inf, "positive"),
        (BELOW_A_HALF, lambda value: 0 < value < 0.5, "in (0, 0.5)"),
        (BELOW_ONE, lambda value: 0 < value < 1, "in (0, 1)"),
        (SHARES, lambda value: 0 <= value <= 1, "from 0 to 1"),
        (ODD, lambda value: value >= 1 and value % 2 != 0, "odd"),
    ):
        for name, value in _values(config, names):
            if not is_valid(value):
                raise ValueError(f"{name} must be {wanted}: got {value}.")
    if is_baseline(config):
        _check_baseline(config.model)
    else:
        _check_sites(config.model)
        _check_together(config)


def _check_open(config: ConfigDict) -> None:
    """Refuses values that are still to be found from the user's own images."""
    names = [
        f"{section}.{name}"
        for section in ("model", "warmup")
        for name, value in config.get(section, {}).items()
        if value is None
    ]
    if names:
        raise ValueError(
            f"{', '.join(names)} are found from the images in data.path: read them"
            " first with input_pipeline.prepare."
        )


def _check_baseline(model: ConfigDict) -> None:
    """Refuses images that whole cells do not cover, and strides that miss a cell."""
    if any(size % CELL for size in model.image_shape[:2]):
        raise ValueError(
            f"the baseline needs images whose height and width are multiples of {CELL}:"
            f" got {tuple(model.image_shape)}. Crop or pad them."
        )
    if model.stem_stride not in (2, 4, CELL):
        raise ValueError(
            f"model.stem_stride must be 2, 4 or {CELL} in the baseline: got"
            f" {model.stem_stride}."
        )


def _check_sites(model: ConfigDict) -> None:
    """Refuses models whose last object may be left without any site to be drawn from.

    Counted as if no two of the discs around the sites drawn before overlapped.
    """
    height, width, _ = model.image_shape
    radius, others = model.exclusion_radius, model.max_objects - 1
    rows = range(-radius, radius + 1)
    disc = sum(2 * math.isqrt(radius**2 - row**2) + 1 for row in rows)
    if others * disc >= height * width:
        raise ValueError(
            f"the discs of model.exclusion_radius={radius} px around {others} objects"
            f" may cover all of a {height}x{width} image, {others} * {disc} of"
            f" {height * width} sites, and leave none for another: lower it or"
            f" model.max_objects, got {model.max_objects}."
        )


def _check_together(config: ConfigDict) -> None:
    """Refuses values that are possible each, but not together."""
    model, warmup, elbo = config.model, config.warmup, config.elbo
    if any(size % model.stem_stride for size in model.image_shape[:2]):
        raise ValueError(
            f"model.stem_stride must divide the image's height and width: got"
            f" {model.stem_stride} for {tuple(model.image_shape)}. Lower it, or crop or"
            " pad the images."
        )
    if model.appearance_net == "trunk" and model.channels % model.stem_stride**2:
        raise ValueError(
            "model.channels must be a multiple of model.stem_stride² with"
            f" model.appearance_net=trunk: got {model.channels} and"
            f" {model.stem_stride}."
        )
    if elbo.draws != "score" and model.appearance_net == "glimpse":
        raise ValueError(
            "model.appearance_net=glimpse reads single sites and needs"
            f" elbo.draws=score: got {elbo.draws}."
        )
    warmup_steps = warmup.auxiliary_steps + warmup.guided_steps
    if config.tighten.steps and config.num_steps - config.tighten.steps < warmup_steps:
        raise ValueError(
            f"tighten.steps are the last ones of a run: got {config.tighten.steps} of"
            f" num_steps = {config.num_steps}, which leave fewer than the"
            f" {warmup_steps} steps of the warm-up (warmup.auxiliary_steps,"
            " warmup.guided_steps). Lower them, to 0 for none."
        )
