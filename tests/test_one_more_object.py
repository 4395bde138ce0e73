"""One more object is proposed where the likelihood of the others is lowest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax.training import proposals
from lavae_jax.types import hard_locations
from tests import tiny_models

B, M = 5, 4

# distrax mixes ranks.
pytestmark = pytest.mark.standard_promotion


def test_objects_with_one_more():
    """The second proposal has one more object behind the others, if a slot is left."""
    n = np.array([0, 2, M])
    site = np.tile(np.arange(1, M + 1), (3, 1))
    given = hard_locations(site, np.arange(M) < n[:, None])
    found = proposals.with_one_more(given, np.array([17, 18, 19]))
    sites = [
        np.asarray(s)[np.asarray(a)].tolist()
        for s, a in zip(found.site, found.active, strict=True)
    ]
    assert sites == [[], [17], [1, 2], [1, 2, 18], [1, 2, 3, 4], [1, 2, 3, 4]]


def _lost(model, variables, x, scene, noise):
    """Sums the nats lost around sites, [B, D], and marks the sites near an object."""
    bound = model.bind(variables)
    appearance = bound.appearance(bound.appearance_features(x), scene)
    q = bound.background_posterior(x)
    canvas = np.float64(bound.paint(appearance.mu, q and q.mu, scene))
    if model.is_binary:
        mean = np.clip(canvas, 0, 1) * (1 - 2 * noise) + noise
        log_p = x * np.log(mean) + (1 - x) * np.log(1 - mean) - np.log(1 - noise)
    else:
        log_p = -((x - canvas) ** 2) / (2 * noise**2)
    radius = max(1, model.exclusion_radius)
    lost, near = np.zeros(x.shape[:3]), np.zeros(x.shape[:3], bool)
    for b, row, column in np.ndindex(lost.shape):
        objects = np.asarray(scene.site)[b, np.asarray(scene.active)[b]]
        yx = np.stack(np.unravel_index(objects, x.shape[1:3]), axis=-1)
        rows = slice(max(0, row - 1), row + 2)  # 2 · 5 // 5 + 1 = 3 rows
        columns = slice(max(0, column - 1), column + 2)
        lost[b, row, column] = -log_p[b, rows, columns].sum()
        if (np.abs(yx - [row, column]).max(axis=1) <= radius).any():
            near[b, row, column] = True
    return lost.reshape(len(x), -1), near.reshape(len(x), -1)


@pytest.mark.parametrize("radius", [0, 2])
@pytest.mark.parametrize("kind", ["binary", "grey"])
def test_one_more_object_where_the_likelihood_is_lowest(kind, radius):
    """The site loses the most nats in the square around it, and no object is near."""
    fields = {"max_objects": M, "exclusion_radius": radius, "sprite_size": 5}
    if kind == "grey":
        fields |= {"compositing": "alpha", "pixels": "gaussian", "background": "smooth"}
    model = tiny_models.tiny_model(**fields)
    variables = tiny_models.random_variables(model)
    images = tiny_models.binary_images if kind == "binary" else tiny_models.grey_images
    x = np.asarray(images(model, B), np.float32)
    n = np.array([0, 1, 2, 1, 2])
    sites = np.random.default_rng(3).permuted(
        np.tile(np.arange(model.num_sites), (B, 1)), axis=1
    )[:, :M]
    scene = hard_locations(sites, np.arange(M) < n[:, None])
    found = jax.jit(
        lambda variables: proposals.worst_site(
            model.bind(variables), x, scene, jnp.float32(0.1)
        )
    )(variables)
    lost, near = _lost(model, variables, x, scene, 0.1)
    found = np.asarray(found)[:, None]
    assert not np.take_along_axis(near, found, axis=1).any()
    most = np.where(near, -np.inf, lost).max(axis=1)
    at_found = np.take_along_axis(lost, found, axis=1)[:, 0]
    np.testing.assert_allclose(at_found, most, rtol=1e-4)
    assert (lost.max(axis=1) > most + 1).any()  # the sites left out matter
    assert len(np.unique(found)) > 2
