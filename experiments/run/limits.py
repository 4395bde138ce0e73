"""What the values of a config may be, checked before anything is computed."""

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
    "warmup.draws": ("relaxed", "straight_through", "mode"),
    "warmup.target": ("kl_map", "bumps"),
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
    "warmup.location_weight_final": 0,
    "warmup.hold_steps": 0,
    "warmup.fade_steps": 0,
    "warmup.auxiliary_steps": 0,
    "warmup.lead_steps": 0,
    "warmup.proposal_steps": 0,
    "warmup.settle_steps": 0,
    "warmup.epsilon_steps": 0,
    "warmup.tau_steps": 1,
    "warmup.location_every": 1,
    "warmup.appearance_updates": 1,
    "warmup.object_size": 1,
    "warmup.orphans": 1,
    "touching.steps": 0,
    "importance.steps": 0,
    "importance.num_samples": 1,
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
    "optimizer.auxiliary_learning_rate",
    "optimizer.clip_norm",
    "optimizer.final_factor",
    "touching.learning_rate",
    "importance.learning_rate",
    "warmup.tau_init",
    "warmup.tau_final",
    "warmup.bump_height",
    "warmup.bump_sigma_init",
    "warmup.bump_sigma_final",
)
"""Numbers above 0."""

BETWEEN = {
    "model.epsilon": (0, 0.5),
    "model.epsilon_init": (0, 0.5),
}
"""Numbers between two others, neither included."""

MAX_SEED = 2**32 - 1
"""The largest seed that the shuffling of the data takes."""

SHARES = (
    "warmup.force_one_init",
    "warmup.force_one_final",
    "importance.elbo_share",
)
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
    """Refuses counts that no run can have.

    Raises:
        ValueError: naming the field, its value and what is possible.
    """
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
    """Refuses values that no model can be built from or trained with.

    Raises:
        ValueError: naming the field, its value and what is possible.
    """
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
    for name, value in _values(config, POSITIVE):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive: got {value}.")
    for name, value in _values(config, BETWEEN):
        low, high = BETWEEN[name]
        if not low < value < high:
            raise ValueError(f"{name} must be in ({low}, {high}): got {value}.")
    for name, value in _values(config, SHARES):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be from 0 to 1: got {value}.")
    for name, value in _values(config, ODD):
        if value < 1 or value % 2 == 0:
            raise ValueError(f"{name} must be odd: got {value}.")
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
    model, warmup = config.model, config.warmup
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
    if warmup.draws != "mode" and model.appearance_net == "glimpse":
        raise ValueError(
            "model.appearance_net=glimpse reads single sites and needs"
            f" warmup.draws=mode: got {warmup.draws}."
        )
    if warmup.refine and (warmup.draws != "mode" or warmup.target != "bumps"):
        raise ValueError(
            "warmup.refine=True needs warmup.draws=mode and warmup.target=bumps: got"
            f" {warmup.draws} and {warmup.target}."
        )
    faded = warmup.hold_steps + warmup.fade_steps
    ends = warmup.location_weight_final == 0 and faded <= warmup.auxiliary_steps
    if not (warmup.refine or ends or config.num_steps <= warmup.auxiliary_steps):
        raise ValueError(
            "without warmup.refine h_loc is taught by the auxiliary VAE as long as its"
            " loss has a weight: warmup.location_weight_final must be 0 and"
            f" warmup.auxiliary_steps at least hold_steps + fade_steps = {faded}: got"
            f" {warmup.location_weight_final} and {warmup.auxiliary_steps}."
        )
    if config.touching.steps and not warmup.refine:
        raise ValueError(
            "touching.steps are for h_loc that is taught by refinement: set it to 0, or"
            f" warmup.refine=True; got {config.touching.steps}."
        )
    touching, importance = config.touching.steps, config.importance.steps
    joint = config.num_steps - touching - importance
    proposed = max(warmup.lead_steps, warmup.proposal_steps)
    if touching + importance and joint <= proposed:
        raise ValueError(
            "touching.steps and importance.steps are the last ones of a run: got"
            f" {touching} and {importance} of num_steps = {config.num_steps}, which"
            f" leave {joint} steps to all that comes before, but more than {proposed}"
            " are needed (warmup.lead_steps, warmup.proposal_steps). Lower them, to 0"
            " for none."
        )
