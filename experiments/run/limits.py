"""Checks what the values of a config may be, before anything is computed.

The checks raise a ValueError that names the value and says what is possible.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments import cli
from experiments.run.build_training import warmup_steps
from lavae_jax.baseline import CELL
from lavae_jax.config import is_baseline


class Limit(NamedTuple):
    """Says which values are allowed."""

    wanted: str
    allows: Callable[[Any], bool]


def _one_of(*choices: str) -> Limit:
    return Limit(f"one of {', '.join(choices)}", lambda value: value in choices)


def _at_least(least: int) -> Limit:
    return Limit(f"at least {least}", lambda value: least <= value < math.inf)


def _from_0_to(most: int) -> Limit:
    return Limit(f"from 0 to {most}", lambda value: 0 <= value <= most)


_POSITIVE = Limit("positive", lambda value: 0 < value < math.inf)
_BELOW_A_HALF = Limit("in (0, 0.5)", lambda value: 0 < value < 0.5)
# Windows whose sides are odd have a pixel in the middle.
_ODD = Limit("odd", lambda value: value >= 1 and value % 2 != 0)

LIMITS = {
    "seed": _from_0_to(2**32 - 1),  # the largest that the shuffling of the data takes
    "num_steps": _at_least(1),
    "batch_size": _at_least(1),
    "log_every": _at_least(1),
    "eval_every": _at_least(1),
    "picture_every": _at_least(1),
    "checkpoint_every": _at_least(1),
    "precision": _one_of("float32", "bfloat16"),
    "model.max_objects": _at_least(1),
    "model.app_dim": _at_least(1),
    "model.sprite_size": _ODD,
    "model.gamma": _POSITIVE,
    "model.mean_limit": _POSITIVE,
    "model.logvar_limit": _POSITIVE,
    "model.count_threshold": _POSITIVE,
    "model.channels": _at_least(1),
    "model.norm": _one_of("batch", "none"),
    "model.stem_stride": _at_least(1),
    "model.location_hidden": _at_least(1),
    "model.location_scale": _POSITIVE,
    "model.appearance_net": _one_of("trunk", "glimpse"),
    "model.glimpse_size": _ODD,
    "model.sprite_net": _one_of("conv", "mlp"),
    "model.width": _at_least(1),
    "model.epsilon": _BELOW_A_HALF,
    "model.epsilon_init": _BELOW_A_HALF,
    "model.pixels": _one_of("bernoulli", "gaussian", "discretised"),
    "model.sigma": _from_0_to(1),
    "model.sigma_init": _POSITIVE,
    "model.compositing": _one_of("sum", "alpha"),
    "model.background": _one_of("black", "constant", "smooth"),
    "model.background_dim": _at_least(1),
    "model.background_waves": _at_least(1),
    "model.exclusion_radius": _at_least(0),
    "model.objects_per_image": _POSITIVE,
    "model.latent_channels": _at_least(1),
    "model.resample_size": _at_least(2),
    "model.upsampling": _one_of("bilinear", "shuffle"),
    "beta.init": _at_least(0),
    "beta.final": _at_least(0),
    "beta.steps": _at_least(1),
    "optimizer.name": _one_of("adamax", "adam"),
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.location_learning_rate": _POSITIVE,
    "optimizer.location_final_factor": _POSITIVE,
    "optimizer.location_decay_steps": _POSITIVE,
    "optimizer.warmup_learning_rate": _POSITIVE,
    "optimizer.clip_norm": _POSITIVE,
    "optimizer.decay": _one_of("constant", "cosine"),
    "optimizer.rise_steps": _at_least(0),
    "optimizer.final_factor": _POSITIVE,
    "warmup.auxiliary_steps": _at_least(0),
    "warmup.auxiliary_channels": _at_least(2),
    "warmup.auxiliary_latents": _at_least(1),
    "warmup.guided_steps": _at_least(0),
    "warmup.target": _one_of("bumps", "kl_map"),
    "warmup.bump_height": _POSITIVE,
    "warmup.bump_sigma": _POSITIVE,
    "warmup.location_weight": _at_least(0),
    "warmup.object_size": _at_least(1),
    "elbo.draws": _one_of("score", "relaxed", "straight_through"),
    "elbo.tau_init": _POSITIVE,
    "elbo.tau_final": _POSITIVE,
    "elbo.tau_steps": _at_least(1),
    "elbo.num_draws": _at_least(1),
    "elbo.count_temperature": _at_least(0),
    "elbo.advantage_limit": _POSITIVE,
    "elbo.location_every": _at_least(1),
    "elbo.appearance_updates": _at_least(0),
    "elbo.minibatches": _at_least(1),
    "elbo.superpose": _from_0_to(1),
    "elbo.overlap": _at_least(0),
    "elbo.superpose_appearance": _from_0_to(1),
    "model.location_prior": _one_of("uniform", "learned"),
    "elbo.wake_weight": _at_least(0),
    "elbo.apart_steps": _at_least(0),
    "elbo.apart_radius": _at_least(0),
    "tighten.steps": _at_least(0),
    "tighten.num_draws": _at_least(1),
    "tighten.elbo_share": _from_0_to(1),
    "tighten.learning_rate": _POSITIVE,
}
"""The limits of single values, by full names; each kind of model has some of them."""


def check(config: ConfigDict) -> None:
    """Refuses values that no model can be built from or trained with."""
    _check_open(config)
    for name, limit in LIMITS.items():
        section, _, field = name.rpartition(".")
        values = config.get(section, {}) if section else config
        if field in values and not limit.allows(values[field]):
            raise ValueError(f"{name} must be {limit.wanted}: got {values[field]}.")
    check_batch(config)
    if is_baseline(config):
        _check_baseline(config.model)
    else:
        _check_sites(
            config.model, "model.exclusion_radius", config.model.exclusion_radius
        )
        if config.elbo.apart_steps:
            _check_sites(config.model, "elbo.apart_radius", config.elbo.apart_radius)
        _check_together(config)


def check_batch(config: ConfigDict, num_devices: int = 1) -> None:
    """Refuses batches that can't be split among the devices and the minibatches."""
    elbo = config.get("elbo", {})
    names = ("location_every", "minibatches")
    multiple = num_devices * math.lcm(*(elbo.get(name, 1) for name in names))
    if config.batch_size % multiple:
        parts = "".join(f", elbo.{k} = {elbo[k]}" for k in names if k in elbo)
        raise ValueError(
            f"batch_size must be a multiple of {multiple}, to be divided by the number"
            f" of devices = {num_devices}{parts}: got {config.batch_size}."
        )


def _check_open(config: ConfigDict) -> None:
    """Refuses values that are still to be found from the user's own images."""
    values = cli.flatten(config).items()
    names = [name for name, x in values if x is None and not name.startswith("data.")]
    if names:
        raise ValueError(
            f"{', '.join(names)} are found from the images in data.path: read them"
            " first with input_pipeline.prepare."
        )


def _check_baseline(model: ConfigDict) -> None:
    """Refuses image sizes and strides that do not fit the cells of the latent grid."""
    if any(size % CELL for size in model.image_shape[:2]):
        raise ValueError(
            f"model.image_shape must have a height and width in multiples of {CELL} for"
            f" the baseline: got {tuple(model.image_shape)}. Crop or pad the images."
        )
    if model.stem_stride not in (2, 4, CELL):
        raise ValueError(
            f"model.stem_stride must be 2, 4 or {CELL} in the baseline: got"
            f" {model.stem_stride}."
        )


def _check_sites(model: ConfigDict, name: str, radius: int) -> None:
    """Refuses models that may have no site left to draw the last object from.

    `radius` is the exclusion radius, a value of this name. The discs around the sites
    drawn before are counted as if none overlapped.
    """
    height, width, _ = model.image_shape
    others = model.max_objects - 1
    rows = range(-radius, radius + 1)
    disc = sum(2 * math.isqrt(radius**2 - row**2) + 1 for row in rows)
    if others * disc >= height * width:
        raise ValueError(
            f"the discs of {name}={radius} px around {others} objects"
            f" may cover all of a {height}x{width} image, {others} * {disc} of"
            f" {height * width} sites, and leave none for another: lower it or"
            f" model.max_objects, got {model.max_objects}."
        )


def _check_together(config: ConfigDict) -> None:
    """Refuses values that are valid alone, but not together."""
    model, elbo = config.model, config.elbo
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
    is_paper = model.pixels == "bernoulli" and model.background == "black"
    superposed = max(elbo.superpose, elbo.superpose_appearance) > 0
    if superposed and model.compositing == "sum" and not is_paper:
        raise ValueError(
            "elbo.superpose and elbo.superpose_appearance need model.compositing=alpha,"
            " or else binary pixels on black, whose objects are the lit pixels: set"
            " them to 0."
        )
    if model.sigma > model.sigma_init:
        raise ValueError(
            "model.sigma_init, from which σ falls to model.sigma, must be no less: got"
            f" {model.sigma_init} and {model.sigma}. Raise it, too:"
            f" --config.model.sigma_init={model.sigma}."
        )
    if elbo.get("wake_one_more") and not elbo.wake_weight:
        raise ValueError(
            "elbo.wake_one_more=True proposes objects, but with elbo.wake_weight=0 they"
            " have no weight: raise it, or set --config.elbo.wake_one_more=False."
        )
    if model.compositing == "sum" and elbo.overlap:
        raise ValueError(
            "elbo.overlap must be 0 with model.compositing=sum, where no object hides"
            f" another: got {elbo.overlap}."
        )
    if model.compositing == "alpha" and model.app_dim < 2:
        raise ValueError(
            "model.app_dim must be at least 2 with model.compositing=alpha, where the"
            f" first number is the depth: got {model.app_dim}."
        )
    num_warmup = warmup_steps(config)
    if config.tighten.steps and config.num_steps - config.tighten.steps < num_warmup:
        raise ValueError(
            f"tighten.steps are the last ones of a run: got {config.tighten.steps} of"
            f" num_steps = {config.num_steps}, which leave fewer than the"
            f" {num_warmup} steps of the warm-up (warmup.auxiliary_steps,"
            " warmup.guided_steps). Lower them, to 0 for none."
        )
    num_elbo = config.num_steps - config.tighten.steps - num_warmup
    if elbo.get("wake_one_more") and 0 < num_elbo <= elbo.apart_steps:
        raise ValueError(
            "elbo.wake_one_more=True proposes objects after the first elbo.apart_steps"
            f" of the ELBO, but these are {elbo.apart_steps} of {num_elbo}: lower them"
            " (to 0 for none), raise num_steps, or set"
            " --config.elbo.wake_one_more=False."
        )
