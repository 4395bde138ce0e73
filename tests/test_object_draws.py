"""The bound from objects drawn one by one equals what all combinations give."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lavae_jax import background as backgrounds
from lavae_jax import object_draws, objectives
from lavae_jax.latents import appearance as appearances
from lavae_jax.types import Appearance, hard_locations
from tests import reference, tiny_models

pytestmark = pytest.mark.standard_promotion

K = 3
SHAPE = (12, 14, 2)


HIDING = {"compositing": "alpha", "pixels": "gaussian", "sigma": 0.5}


def _given(sites, **fields):
    """Returns a model, an image, and candidates for objects at sites, as one image."""
    model = tiny_models.tiny_model(SHAPE, **fields)
    variables = tiny_models.random_variables(model)
    x = jnp.asarray(tiny_models.binary_images(model, 1))
    rng = np.random.default_rng(0)
    M, L = model.max_objects, model.app_dim
    active = np.arange(M) < len(sites)
    site = np.zeros(M, np.int32)
    site[: len(sites)] = [row * SHAPE[1] + column for row, column in sites]
    locations = hard_locations(jnp.array([site]), jnp.array([active]))
    mu, logvar = 0.5 * rng.normal(size=(2, 1, M, L)).astype(np.float32)
    appearance = Appearance(*(jnp.where(active[:, None], a, 0) for a in (mu, logvar)))
    keys = tiny_models.image_keys(K)
    repeated = jax.tree.map(lambda a: jnp.repeat(a, K, axis=0), appearance)
    z_app = appearances.draw(repeated, keys)
    return model, variables, x, appearance, locations, z_app


def _over_all_combinations(model, variables, x, appearance, locations, z_app):
    """Returns log of the mean of p(x, z) / q(z) over all combinations, in float64."""
    active = jnp.repeat(locations.active, K, axis=0)
    bound = model.bind(variables)
    layers = np.float64(bound.layers(z_app, active))
    z, (mu, logvar) = np.float64(z_app), reference.float64(appearance)
    n = int(locations.active.sum())
    log_q = reference.log_normal(z, mu, logvar)
    log_p = reference.log_normal(z)
    maps = reference.one_hot_maps(
        np.asarray(locations.site), np.asarray(locations.active), *SHAPE[:2]
    )
    log_w = []
    for chosen in itertools.product(range(K), repeat=n):
        picture = np.zeros_like(layers[:1])
        for slot, k in enumerate(chosen):
            picture[0, slot] = layers[k, slot]
        canvas = reference.convolve(picture, np.float64(maps))
        if model.is_binary:
            log_px = reference.log_likelihood(x, canvas, model.epsilon).sum()
        else:
            means = np.float64(bound.blend(canvas.astype(np.float32), None))
            log_px = stats.norm.logpdf(np.float64(x), means, model.sigma).sum()
        ratios = [(log_p - log_q)[k, slot] for slot, k in enumerate(chosen)]
        log_w.append(log_px + sum(ratios))
    return np.logaddexp.reduce(log_w) - n * np.log(K)


def _estimates(model, variables, x, appearance, locations, z_app, num):
    """Estimates log p(x | z_loc) with keys that choose other candidates, [num]."""

    @jax.jit
    @jax.vmap
    def estimate(key):
        bound = model.bind(variables)
        return object_draws.appearance_log_weights(
            bound, x, appearance, locations, z_app, key[None]
        )[0]

    return np.float64(estimate(jax.random.split(jax.random.key(5), num)))


@pytest.mark.parametrize("sites", [[], [(0, 1)], [(2, 2), (9, 11), (3, 10)]])
@pytest.mark.parametrize("fields", [{}, HIDING])
def test_objects_apart(sites, fields):
    """Where sprites do not overlap, every choice gives the mean of all combinations."""
    given = _given(sites, **fields)
    expected = _over_all_combinations(*given)
    np.testing.assert_allclose(_estimates(*given, 4), expected, rtol=1e-5)


@pytest.mark.parametrize("fields", [{}, HIDING])
def test_objects_that_overlap(fields):
    """Where they overlap, the mean over choices is the mean of all combinations."""
    given = _given([(5, 6), (6, 7), (4, 8)], **fields)
    expected = _over_all_combinations(*given)
    shares = np.exp(_estimates(*given, 4_000) - expected)
    error = shares.std() / np.sqrt(len(shares))
    assert shares.std() > 1e-3
    assert abs(shares.mean() - 1) < 4 * error < 0.1


@pytest.mark.parametrize("fields", [{}, {**HIDING, "background": "smooth"}])
def test_one_candidate_is_a_draw_of_the_scene(fields):
    """With K = 1, the estimate is the importance weight of the draw."""
    model = tiny_models.tiny_model(SHAPE, **fields)
    variables = tiny_models.random_variables(model)
    x, keys = tiny_models.binary_images(model, 4), tiny_models.image_keys(4)
    model = tiny_models.counting_some(model, variables, 255 * x)

    @jax.jit
    def both(x, keys):
        bound = model.bind(variables)
        h_loc = bound.location_logits(x)
        n = bound.count(h_loc)
        locations = bound.locations(h_loc, n, keys)
        appearance = bound.appearance(bound.appearance_features(x), locations)
        z_app = appearances.draw(appearance, keys)
        background = bound.background_posterior(x)
        weights = objectives.log_ratios(
            bound, x, appearance, background, locations, keys
        )
        behind = bound.background(backgrounds.draw(background, keys))
        estimate = object_draws.appearance_log_weights(
            bound, x, appearance, locations, z_app, keys, behind
        )
        return weights.log_px + weights.app, estimate, n

    weights, estimate, n = both(x, keys)
    assert len(set(n.tolist())) > 1
    np.testing.assert_allclose(estimate, weights, rtol=1e-5)
