"""Where a train step has its objects, and what h_loc is taught."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lavae_jax import refinement, warmup
from lavae_jax.latents.locations import draw_locations
from lavae_jax.model import LAVAE
from lavae_jax.objectives import Reconstruction
from lavae_jax.training.optimizer import Optimizer
from lavae_jax.training.recipe import Phase, Recipe
from lavae_jax.training.schedules import Schedules
from lavae_jax.types import Array, Locations, hard_locations


class Setup(NamedTuple):
    """What a train step is made of, see `step.make_train_step`."""

    model: LAVAE
    auxiliary: warmup.AuxiliaryVAE
    optimizer: Optimizer
    schedules: Schedules
    recipe: Recipe
    phase: Phase


def _peaks(setup: Setup, kl_map: Array) -> tuple[Array, Array]:
    """Where the KL map, [B, H, W], says that objects are; see `kl_peaks`."""
    max_objects, size = setup.model.max_objects, setup.recipe.object_size
    return warmup.kl_peaks(kl_map, max_objects, size)


def _proposals(setup: Setup, kl_map: Array) -> Locations:
    """Hard locations at the peaks of the KL map, [B, H, W]."""
    height, width = kl_map.shape[1:]
    centres, valid = _peaks(setup, kl_map)
    nearest = jnp.round(centres).astype(jnp.int32)
    row = jnp.clip(nearest[..., 0], 0, height - 1)
    column = jnp.clip(nearest[..., 1], 0, width - 1)
    site = jnp.where(valid, row * width + column, 0)
    z_loc = None
    if setup.recipe.draws != "mode":
        z_loc = jax.nn.one_hot(site, setup.model.num_sites, dtype=kl_map.dtype)
        z_loc = z_loc * valid[..., None]
    return hard_locations(site, valid)._replace(z_loc=z_loc)


def locations(
    setup: Setup,
    step: Array,
    h_loc: Array,
    n: Array,
    keys: Array,
    kl_map: Array | None,
) -> Locations:
    """Draws the locations, or takes the proposals while the warm-up lasts."""
    recipe, model = setup.recipe, setup.model
    if setup.phase.propose:
        return _proposals(setup, kl_map)
    return draw_locations(
        h_loc,
        n,
        model.max_objects,
        keys=None if recipe.draws == "mode" else keys,
        tau=None if recipe.draws == "mode" else setup.schedules.tau(step),
        straight_through=recipe.draws == "straight_through",
        exclusion_radius=model.exclusion_radius,
    )


def location_target(
    setup: Setup,
    model: LAVAE,
    step: Array,
    x: Array,
    result: Reconstruction,
    kl_map: Array,
    epsilon: Array,
) -> tuple[Array, refinement.Target | None]:
    """The map that h_loc before γ is regressed on, [B, H, W]."""
    recipe = setup.recipe
    if recipe.target == "kl_map":
        return kl_map, None
    refined = None
    if setup.phase.propose or not recipe.refine:
        centres, valid = _peaks(setup, kl_map)
    else:
        refined = refinement.refine(
            model, x, result, epsilon, recipe.object_size, recipe.orphans
        )
        centres, valid = refined.centres, refined.valid
    sigma = setup.schedules.bump_sigma(step)
    target = warmup.bumps(centres, valid, recipe.bump_height, sigma, x.shape[1:3])
    return target, refined
