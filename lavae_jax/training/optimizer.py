"""One optimiser per part of the model, each with its learning rate and clipping."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from lavae_jax.types import Variables

PARTS = ("location", "rest", "auxiliary")


def part_of(path: tuple[Any, ...]) -> str:
    """Which part of `PARTS` a parameter belongs to, by its path in the state's tree."""
    names = [key.key for key in path]
    if names[0] == "auxiliary":
        return "auxiliary"
    return "location" if names[1] == "location_net" else "rest"


def make_optimizer(
    transform: Callable[[optax.Schedule], optax.GradientTransformation],
    learning_rates: dict[str, optax.Schedule],
    clip_norm: float,
) -> optax.GradientTransformation:
    """Clips and updates each part on its own.

    One clip over all parts would starve the location network, whose gradients are the
    smallest.

    Args:
        transform: from a learning rate to an optimiser, such as `optax.adamax`.
        learning_rates: a schedule for each of `PARTS`.
        clip_norm: largest norm of a part's gradient.
    """

    def labels(params: Variables) -> Variables:
        return jax.tree_util.tree_map_with_path(lambda path, _: part_of(path), params)

    parts = {
        part: optax.chain(
            optax.clip_by_global_norm(clip_norm), transform(learning_rates[part])
        )
        for part in PARTS
    }
    return optax.multi_transform(parts, labels)
