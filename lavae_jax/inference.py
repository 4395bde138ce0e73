"""The Python API: infer, render, sample and evaluate with a trained model.

These arguments are the same everywhere:

- model, variables: LAVAE or the baseline, with its variables, as `load` returns them.
- images: [B, H, W, C], whole numbers as in uint8, or floats in {0, 1}; in [0, 1] if the
  model's pixels are not binary. A ValueError or a TypeError says what is wrong with
  images that the model was not built for.
- key: one key for the batch, or [B] keys for draws that do not depend on how images
  are batched.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lavae_jax import background as backgrounds
from lavae_jax import baseline, blending, objectives
from lavae_jax import images as image_checks
from lavae_jax.latents import appearance as appearances
from lavae_jax.model import LAVAE
from lavae_jax.types import (
    Array,
    Locations,
    Scene,
    Variables,
    hard_locations,
    site_at,
    yx_of,
)

Model = LAVAE | baseline.BaselineVAE
"""LAVAE, or the baseline it is compared with, which has no objects to infer."""


def infer(
    model: LAVAE,
    variables: Variables,
    images: Array | np.ndarray,
    key: Array | None = None,
) -> Scene:
    """Infers the objects of images: how many, where, and what they look like.

    With a key the scene is a draw from q(z | x); without one it has the most likely
    sites and the means of the appearances. Images with the largest possible n may hold
    more objects: see `Scene.is_capped`. The baseline is refused with a TypeError.
    """
    check_has_objects(model)
    x = image_checks.check(images, model.image_shape, model.is_binary)
    keys = None if key is None else _image_keys(key, len(x))
    return _infer(model, variables, x, keys)


def check_has_objects(model: Model) -> None:
    """Raises a TypeError for the baseline, which has no objects to infer."""
    if not isinstance(model, LAVAE):
        raise TypeError(
            f"a model with objects, LAVAE, is needed: got {type(model).__name__}, which"
            " can only reconstruct images."
        )


@partial(jax.jit, static_argnums=0)
def _infer(model, variables, x, keys):
    bound = model.bind(variables)
    h_loc = bound.location_logits(x)
    n = bound.count(h_loc)
    split = jax.vmap(jax.random.split)
    key_loc, key_app = (None, None) if keys is None else split(keys).T
    locations = bound.locations(h_loc, n, key_loc)
    appearance = bound.appearance(bound.appearance_features(x), locations)
    background = bound.background_posterior(x)
    z_app, z_background = appearance.mu, background and background.mu
    if keys is not None:
        z_app = appearances.draw(appearance, key_app)
        z_app = jnp.where(locations.active[..., None], z_app, 0)
        z_background = backgrounds.draw(background, key_app)
    return _to_scene(n, locations, z_app, z_background, model.image_shape[1])


def _to_scene(n, locations, z_app, z_background, width):
    yx = yx_of(locations.site, width)
    return Scene(n, yx, z_app, locations.active, z_background)


@partial(jax.jit, static_argnums=0)
def sprites(model: LAVAE, variables: Variables, scene: Scene) -> Array:
    """Decodes one sprite per slot: [B, M, S, S, C] in [0, 1], zeros if inactive.

    Where sprites have an opacity, these are colours times opacity.
    """
    painted = model.bind(variables).sprites(scene.z_app, scene.active)
    is_sum = model.compositing == "sum"
    return painted if is_sum else painted[..., :-1] * painted[..., -1:]


@partial(jax.jit, static_argnums=0)
def masks(model: LAVAE, variables: Variables, scene: Scene) -> Array:
    """Shows where each sprite covers what is behind it: [B, M, S, S] in [0, 1].

    It does where the value is above 0.5. Where several sprites do, the object with the
    largest value is the one to be seen.
    """
    locations = hard_locations(site_at(scene.yx, model.image_shape[:2]), scene.active)
    behind = model.bind(variables).background(scene.background)
    return masks_at(model, variables, scene.z_app, locations, behind)


def masks_at(
    model: LAVAE,
    variables: Variables,
    z_app: Array,
    locations: Locations,
    behind: Array | None,
    inside: Array | None = None,
) -> Array:
    """Computes the `masks` of appearances [B, M, L] at locations, [B, M].

    `behind` is what `LAVAE.background` paints, of as many images or one. `inside` is
    that of `blending.covers`.
    """
    painted = model.bind(variables).sprites(z_app, locations.active)
    if model.compositing == "sum":
        return painted.max(axis=-1)
    behind = jnp.zeros(()) if behind is None else behind
    behind = jnp.broadcast_to(behind, (len(z_app), *model.image_shape))
    nearness = (1 + jax.nn.sigmoid(z_app[..., :1, None])) / 2
    covered = blending.covers(painted, locations.site, behind, inside)
    return jnp.where(covered, nearness, 0)


@partial(jax.jit, static_argnums=0)
def render(model: LAVAE, variables: Variables, scene: Scene) -> Array:
    """Paints a scene, objects outside it at the border: pixel means, [B, H, W, C].

    A ValueError says what is wrong with the background of another model's scene.
    """
    wanted = (len(scene.n), model.background_dim) if model.background_dim else None
    found = None if scene.background is None else tuple(scene.background.shape)
    if found != wanted:
        raise ValueError(
            f"scene.background must be {wanted and list(wanted)} for this model: got"
            f" {found and list(found)}. Scenes that `infer` gives have it."
        )
    site = site_at(scene.yx, model.image_shape[:2])
    locations = hard_locations(site, scene.active)
    bound = model.bind(variables)
    return bound.pixel_mean(bound.paint(scene.z_app, scene.background, locations))


def reconstruct(
    model: Model, variables: Variables, images: Array | np.ndarray
) -> Array:
    """Paints images as the model explains them best: pixel means, [B, H, W, C]."""
    if isinstance(model, LAVAE):
        return render(model, variables, infer(model, variables, images))
    x = image_checks.check(images, model.image_shape, model.is_binary)
    return _reconstruct(model, variables, x)


_reconstruct = partial(jax.jit, static_argnums=0)(baseline.reconstruct)


def log_weights(
    model: Model,
    variables: Variables,
    images: Array | np.ndarray,
    key: Array,
    num_samples: int,
) -> Array:
    """Computes log p(x, z) − log q(z | x), nats, [K, B]: K = `num_samples` draws."""
    x = image_checks.check(images, model.image_shape, model.is_binary)
    if num_samples < 1 or int(num_samples) != num_samples:
        raise ValueError(
            f"num_samples must be a whole number of at least 1, got {num_samples}."
        )
    num_samples = int(num_samples)
    return _log_weights(model, variables, x, _image_keys(key, len(x)), num_samples)


def _image_keys(key: Array, num_images: int) -> Array:
    """Returns one key per image: those given, or split from a single key."""
    kind, shape = getattr(key, "dtype", type(key).__name__), np.shape(key)
    typed = jnp.issubdtype(getattr(key, "dtype", object), jax.dtypes.prng_key)
    if not typed or shape not in ((), (num_images,)):
        raise ValueError(
            f"key must be one jax.random.key or {num_images} of them, one per image:"
            f" got {kind}{list(shape)}."
        )
    return jax.random.split(key, num_images) if key.ndim == 0 else key


@partial(jax.jit, static_argnums=(0, 4))
def _log_weights(model, variables, x, keys, num_samples):
    family = objectives if isinstance(model, LAVAE) else baseline
    return family.log_weights(model, variables, x, keys, num_samples)


def log_likelihood_bound(
    model: Model,
    variables: Variables,
    images: Array | np.ndarray,
    key: Array,
    num_samples: int = 100,
) -> Array:
    """Computes the importance-weighted lower bound on log p(x), nats, [B].

    It is log (1/K Σ_k w_k) for the weights of `log_weights`, as in Table 1 with
    K = 100. K = 1 gives the ELBO.
    """
    log_w = log_weights(model, variables, images, key, num_samples)
    return jax.nn.logsumexp(log_w, axis=0) - jnp.log(float(num_samples))


def generate(
    model: Model,
    variables: Variables,
    key: Array,
    num_images: int,
    prior_n: Array | np.ndarray | None = None,
) -> Array:
    """Samples scenes from the prior and paints them: means [num_images, H, W, C].

    `prior_n` holds [M + 1] probabilities of n in place of LAVAE's learned ones.

    Raises:
        ValueError: if `prior_n` is not a distribution over 0..M, or given for the
            baseline, or `num_images` is not positive.
    """
    if num_images < 1:
        raise ValueError(f"num_images must be at least 1, got {num_images}.")
    keys = _image_keys(key, num_images)
    if not isinstance(model, LAVAE):
        if prior_n is not None:
            raise ValueError("prior_n is for LAVAE: the baseline has no n.")
        return _generate(model, variables, keys)
    if prior_n is not None:
        prior_n = _checked_prior(prior_n, model.max_objects)
    n, *latents = _sample_prior(model, variables, keys, prior_n)
    scene = _to_scene(n, *latents, model.image_shape[1])
    return render(model, variables, scene)


_sample_prior = partial(jax.jit, static_argnums=0)(objectives.sample_prior)
_generate = partial(jax.jit, static_argnums=0)(baseline.generate)


def _checked_prior(prior_n, max_objects):
    prior_n = np.asarray(prior_n, np.float32)
    valid = prior_n.shape == (max_objects + 1,) and (prior_n >= 0).all()
    if not valid or not abs(prior_n.sum() - 1) < 1e-4:
        raise ValueError(
            f"prior_n must hold {max_objects + 1} probabilities, for n = 0 to"
            f" {max_objects}, that sum to 1: got {prior_n.tolist()}."
        )
    return prior_n
