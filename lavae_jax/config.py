"""Configs of models: plain values that JSON can hold, and models built from them."""

import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike

from lavae_jax import background as backgrounds
from lavae_jax import baseline, blocks, networks
from lavae_jax.compositing import Kind as Compositing
from lavae_jax.inference import Model
from lavae_jax.likelihood import Kind as Pixels
from lavae_jax.model import LAVAE, LocationPrior

# Values of `model` in a run's config that only training or earlier versions use.
_UNUSED = frozenset({"epsilon_init", "sigma_init", "composite_method"})


class ModelConfig(NamedTuple):
    """The sizes and kinds of the parts of a LAVAE.

    Attributes:
        image_shape: (H, W, C).
        max_objects: M.
        app_dim: L.
        sprite_size: S, odd.
        gamma: γ, the factor on the location logits, about log(D) / 2.
        count_threshold: what f_count compares h_loc with, 4γ in the paper.
        channels: features of the convolutions.
        norm: normalisation in the trunks.
        stem_stride: pixels per row and column of a trunk's maps.
        location_hidden: channels of the layers that end in h_loc.
        location_scale: factor on the location net's output.
        appearance_net: a trunk that is read at z_loc, or a window around z_loc.
        glimpse_size: side of that window, odd.
        sprite_net: convolutional or dense.
        width: units per layer of the appearance net "glimpse" and the sprite net "mlp".
        epsilon: ε, keeps pixel means inside [ε, 1 − ε].
        exclusion_radius: pixels around a drawn site that later draws leave out; 0 in
            the paper.
        objects_per_image: sizes the buffer in which sprites are decoded.
        mean_limit, logvar_limit: see `latents.appearance.from_outputs`. Configs of
            released models may lack these and the following values, which then have
            their defaults.
        pixels: the distribution of pixels, see `likelihood`; "bernoulli" in the paper.
        sigma: the standard deviation σ of other pixels, which lie in 0 to 1; 0 for one
            that is learned.
        compositing: "sum" as in the paper, or "alpha", see `blending`.
        background: "black" as in the paper, "constant" or "smooth", see `background`.
        background_dim: dimensions of the latent of a smooth background.
        background_waves: cosine waves per direction of a smooth background.
        location_prior: p(z_loc | n), "uniform" as in the paper, or "learned", a
            probability per pixel.
    """

    image_shape: tuple[int, int, int]
    max_objects: int
    app_dim: int
    sprite_size: int
    gamma: float
    count_threshold: float
    channels: int
    norm: blocks.Norm
    stem_stride: int
    location_hidden: int
    location_scale: float
    appearance_net: Literal["trunk", "glimpse"]
    glimpse_size: int
    sprite_net: Literal["conv", "mlp"]
    width: int
    epsilon: float
    exclusion_radius: int
    objects_per_image: float
    mean_limit: float = 5.0
    logvar_limit: float = 1.0
    pixels: Pixels = "bernoulli"
    sigma: float = 0.0
    compositing: Compositing = "sum"
    background: backgrounds.Kind = "black"
    background_dim: int = 4
    background_waves: int = 1
    location_prior: LocationPrior = "uniform"


class BaselineConfig(NamedTuple):
    """The sizes and kinds of the parts of the baseline, as `BaselineVAE` has them.

    `kind` distinguishes this config from LAVAE's, which has none.
    """

    kind: Literal["baseline"]
    image_shape: tuple[int, int, int]
    latent_channels: int
    channels: int
    norm: blocks.Norm
    stem_stride: int
    resample_size: int
    upsampling: baseline.Upsampling
    epsilon: float


def is_baseline(config: Mapping[str, Any]) -> bool:
    """Tells whether a run's whole config is of the baseline, not of LAVAE."""
    return "kind" in config.get("model", {})


def from_run(config: Mapping[str, Any]) -> ModelConfig | BaselineConfig:
    """Returns the part of a run's config (`config.json`) that describes its model.

    Raises:
        ValueError: if there is no such part, a name in it is missing or unknown, or a
            value has another type.
    """
    model = config.get("model")
    if not isinstance(model, Mapping):
        raise ValueError("the config has no part `model`: it is not that of a run.")
    if is_baseline(config):
        return BaselineConfig(**_fields(BaselineConfig, model))
    values = {name: model[name] for name in model if name not in _UNUSED}
    return ModelConfig(**_fields(ModelConfig, values))


def _fields(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a config's fields; raises ValueError for another type."""
    kinds = typing.get_type_hints(cls)
    values = {**cls._field_defaults, **values}
    for problem, names in (
        ("lacks", kinds.keys() - values.keys()),
        ("has unknown", values.keys() - kinds.keys()),
    ):
        if names:
            raise ValueError(
                f"the model's config {problem} {', '.join(sorted(names))}: it was"
                " written by another version of lavae_jax, or changed since."
            )
    return {name: _checked(name, values[name], kinds[name]) for name in kinds}


def _checked(name: str, value: Any, kind: Any) -> Any:
    """Returns the value as the field's type, or raises an error that names it."""
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        valid, expected = value in choices, f"one of {', '.join(choices)}"
    elif typing.get_origin(kind) is tuple:
        valid = isinstance(value, list | tuple) and len(value) == len(choices)
        valid = valid and all(type(item) is int for item in value)
        value, expected = tuple(value) if valid else value, "three whole numbers"
    elif kind is float:
        # JSON does not tell 4.0 from 4; a bool is an int in Python, but not here.
        valid, expected = type(value) in (int, float), "a number"
        value = float(value) if valid else value
    else:
        valid, expected = type(value) is int, "a whole number"
    if not valid:
        raise ValueError(f"model.{name} must be {expected}: got {value!r}.")
    return value


def build_model(
    config: ModelConfig | BaselineConfig,
    axis_name: str | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Model:
    """Builds the model of a config.

    Layers compute in `dtype`. Parameters, batch statistics, the outputs of networks
    and all that is computed from these are float32. `axis_name` is the mapped axis of
    devices, if any.
    """
    if isinstance(config, BaselineConfig):
        fields = config._asdict()
        del fields["kind"]
        return baseline.BaselineVAE(**fields, axis_name=axis_name, dtype=dtype)
    return _build_lavae(config, axis_name, dtype)


def _build_lavae(config: ModelConfig, axis_name: str | None, dtype) -> LAVAE:
    c, has_opacity = config, config.compositing == "alpha"
    channels = c.image_shape[2] + has_opacity  # of sprites

    def trunk() -> blocks.Trunk:
        return blocks.Trunk(c.channels, c.norm, c.stem_stride, axis_name, dtype=dtype)

    if c.appearance_net == "glimpse":
        appearance_net = networks.GlimpseAppearanceNet(
            c.glimpse_size,
            c.width,
            c.app_dim,
            0 if c.background == "black" else c.image_shape[2],
            axis_name,
            dtype,
        )
    else:
        appearance_net = networks.AppearanceNet(trunk(), c.app_dim)
    if c.sprite_net == "mlp":
        f_sprite = networks.MLPSpriteDecoder(
            c.sprite_size, channels, c.width, has_opacity, dtype
        )
    else:
        f_sprite = networks.SpriteDecoder(
            c.sprite_size, channels, c.channels, axis_name, has_opacity, dtype=dtype
        )
    nets = dict(
        location_net=networks.LocationNet(trunk(), c.location_hidden, c.location_scale),
        appearance_net=appearance_net,
        f_sprite=f_sprite,
        background_net=build_background(c),
    )
    values = {k: v for k, v in c._asdict().items() if k in LAVAE.__dataclass_fields__}
    return LAVAE(axis_name=axis_name, **values | nets)


def build_background(c: ModelConfig) -> backgrounds.Network | None:
    """Builds the network of a config's background; None for a black one."""
    channels = c.image_shape[2]
    if c.background == "black":
        return None
    if c.background == "constant":
        return backgrounds.ConstantBackground(channels)
    return backgrounds.SmoothBackground(channels, c.background_dim, c.background_waves)
