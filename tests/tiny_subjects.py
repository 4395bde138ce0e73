"""Data sets of a tiny model for the figures and claims: scenes given, not inferred."""

import numpy as np

from experiments.paper.subject import Images, Subject
from lavae_jax.types import Scene
from tests import tiny_models

SHAPE = (14, 11, 3)


def images(split, n, inferred_n=None, seed=0, max_objects=8, app_dim=4):
    """Images with n objects each [N], and scenes with other numbers if asked for."""
    rng = np.random.default_rng(seed)
    counts = np.array(n if inferred_n is None else inferred_n)
    active = np.arange(max_objects) < counts[:, None]
    yx = rng.integers(0, SHAPE[:2], (*active.shape, 2))
    z_app = rng.normal(size=(*active.shape, app_dim))
    scene = Scene(
        counts.astype(np.int32),
        np.where(active[..., None], yx, 0).astype(np.int32),
        np.where(active[..., None], z_app, 0).astype(np.float32),
        active,
    )
    pixels = rng.integers(0, 2, (len(counts), *SHAPE)).astype(np.uint8) * 255
    return Images(split, pixels, np.array(n), scene)


def subject(few, many, baseline=None):
    """A data set of LAVAE with parameters of no meaning."""
    model = tiny_models.tiny_model(SHAPE, max_objects=8, app_dim=4, sprite_size=5)
    variables = tiny_models.random_variables(model, scale=0.8)
    return Subject("multi_dsprites/tiny", "Tiny", model, variables, baseline, few, many)


def rendered(subject, scene):
    """Pixel means of scenes."""
    return subject.render(scene)
