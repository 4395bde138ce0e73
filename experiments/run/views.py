"""What a model sees in images, and the picture of it."""

from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

import lavae_jax
from lavae_jax import plotting
from lavae_jax.inference import Model


class SceneView(NamedTuple):
    """What LAVAE sees: objects.

    Attributes:
        scene: the most likely one.
        means: [B, H, W, C] pixel means of its reconstruction.
        sprites: [B, M, S, S, C].
    """

    scene: lavae_jax.Scene
    means: jax.Array
    sprites: jax.Array

    def figure(self, images: np.ndarray) -> Figure:
        """Shows it beside the images [B, H, W, C]."""
        return plotting.reconstructions(images, self.means, self.scene, self.sprites)


class ImageView(NamedTuple):
    """What the baseline sees: no objects.

    Attributes:
        means: [B, H, W, C] pixel means of its reconstruction.
    """

    means: jax.Array

    def figure(self, images: np.ndarray) -> Figure:
        """Shows it beside the images [B, H, W, C]."""
        return plotting.comparison(images, self.means)


View = SceneView | ImageView


def look(model: Model, variables: dict[str, Any], images: np.ndarray) -> View:
    """What a model sees in images [B, H, W, C]."""
    if not isinstance(model, lavae_jax.LAVAE):
        return ImageView(lavae_jax.reconstruct(model, variables, images))
    scene = lavae_jax.infer(model, variables, images)
    return SceneView(
        scene,
        lavae_jax.render(model, variables, scene),
        lavae_jax.sprites(model, variables, scene),
    )
