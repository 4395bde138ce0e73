"""Runs the library's functions on many images or scenes in batches of one size.

As all batches have one size, each function is compiled once, and memory does not grow
with the number of images. Results are NumPy arrays.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import lavae_jax
from lavae_jax.types import Scene

BATCH = 100


def infer(
    model: lavae_jax.LAVAE, variables: dict[str, Any], images: np.ndarray
) -> Scene:
    """Infers the most likely scenes of [N, H, W, C] images."""
    return _in_batches(lambda x: lavae_jax.infer(model, variables, x), images)


def render(
    model: lavae_jax.LAVAE, variables: dict[str, Any], scene: Scene
) -> np.ndarray:
    """Renders N scenes as pixel means, [N, H, W, C]."""
    return _in_batches(lambda x: lavae_jax.render(model, variables, x), scene)


def sprites(
    model: lavae_jax.LAVAE, variables: dict[str, Any], scene: Scene
) -> np.ndarray:
    """Decodes the sprites of N scenes, [N, M, S, S, C]."""
    return _in_batches(lambda x: lavae_jax.sprites(model, variables, x), scene)


def _in_batches(function: Callable[[Any], Any], values: Any) -> Any:
    """Applies a function of [BATCH, ...] to [N, ...]; fills up the last batch."""
    values = jax.tree.map(np.asarray, values)
    num = len(jax.tree.leaves(values)[0])
    parts = []
    for start in range(0, num, BATCH):
        indices = np.arange(start, start + BATCH) % num
        batch = jax.tree.map(lambda x, rows=indices: x[rows], values)
        parts.append(jax.device_get(function(batch)))
    return jax.tree.map(lambda *x: np.concatenate(x)[:num], *parts)
