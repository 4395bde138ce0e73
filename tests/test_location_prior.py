"""A learned prior of locations is that of the sites where objects are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import lavae_jax
from lavae_jax import objectives
from lavae_jax.latents import locations
from lavae_jax.types import hard_locations
from tests import reference, tiny_models
from tests.tiny_steps import (
    PLAIN,
    RECIPE,
    changed,
    compiled_step,
    make_images,
    start_state,
)

H, W, M = 4, 5, 4
D = H * W
N = np.array([0, 1, 3, 4], np.int32)

# distrax mixes ranks.
pytestmark = pytest.mark.standard_promotion


def _drawn(tau=None):
    h_loc = jnp.asarray(np.random.default_rng(0).normal(size=(4, H, W)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    return locations.draw_locations(h_loc, N, M, keys=keys, tau=tau)


def test_sites_that_are_not_equally_likely():
    """Sites are drawn in proportion to the prior, without replacement."""
    log_prior = special.log_softmax(np.random.default_rng(5).normal(size=D))
    prior, drawn = np.exp(log_prior), jax.jit(_drawn)()
    expected = [
        sum(
            log_prior[sites[i]] - math.log(1 - prior[sites[:i]].sum()) for i in range(n)
        )
        for sites, n in zip(np.asarray(drawn.site), N, strict=True)
    ]
    log_p = locations.log_p_of_sites(drawn, D, np.float32(log_prior))
    np.testing.assert_allclose(log_p, expected, rtol=1e-5, atol=1e-5)
    kl = locations.kl_locations(drawn, D, np.float32(log_prior))
    entropy = np.float64(drawn.entropy).sum(1)
    np.testing.assert_allclose(kl, -np.array(expected) - entropy, rtol=1e-4, atol=1e-4)


def test_equally_likely_sites():
    """A prior of equal probabilities is Eq. 3, also where it draws every site."""
    site = np.random.default_rng(0).permuted(np.tile(np.arange(4), (3, 1)), axis=1)
    drawn = hard_locations(site, np.arange(4) < np.array([[4], [2], [0]]))
    equal = locations.log_p_of_sites(drawn, 4, jnp.full(4, -math.log(4), jnp.float32))
    expected = [reference.log_p_locations(n, 4) for n in (4, 2, 0)]
    np.testing.assert_allclose(equal, expected, rtol=1e-5, atol=1e-6)


def test_relaxed_draws_have_a_gradient():
    """A relaxed draw is worth the mean of the log prior over its sites."""
    log_prior = np.float32(special.log_softmax(np.random.default_rng(5).normal(size=D)))
    drawn = jax.jit(lambda: _drawn(jnp.float32(0.5)))()

    def total(z_loc):
        return locations.log_p_of_sites(drawn._replace(z_loc=z_loc), D, log_prior).sum()

    gradient = jax.grad(total)(drawn.z_loc)
    expected = np.where(drawn.active[..., None], log_prior, 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def _model(**fields):
    model = tiny_models.tiny_model((8, 10, 2), **fields)
    return model, tiny_models.random_variables(model)


def test_the_elbo_teaches_the_prior():
    """The gradient of the ELBO is the number of objects at a site less the expected."""
    model, variables = _model(location_prior="learned", max_objects=1)
    x = tiny_models.binary_images(model, 3)
    site = np.array([[7], [7], [30]])
    drawn = hard_locations(site, np.ones((3, 1), bool))
    keys = tiny_models.image_keys(3)

    @jax.jit
    @jax.grad
    def gradient(params):
        bound, n = model.bind({**variables, "params": params}), jnp.ones(3, jnp.int32)
        return objectives.reconstruct(bound, x, drawn, n, keys).elbo.sum()

    params = variables["params"]
    number = np.bincount(site[:, 0], minlength=80)
    expected = number - 3 * special.softmax(
        np.float64(params["prior_location"]).ravel()
    )
    found = gradient(params)["prior_location"].ravel()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_samples_follow_the_prior():
    """Sampled scenes have their objects where the prior is."""
    model, variables = _model(location_prior="learned", max_objects=2)
    logits = np.full((8, 10), -20.0, np.float32)
    logits[[2, 6], [3, 9]] = 0
    variables["params"]["prior_location"] = logits
    prior_n = jnp.array([0.0, 0.0, 1.0])
    keys = tiny_models.image_keys(50)
    _, drawn, *_ = objectives.sample_prior(model, variables, keys, prior_n)
    assert {tuple(sorted(sites)) for sites in drawn.site.tolist()} == {(23, 69)}


def test_images_of_other_sizes_need_no_prior():
    """A model with a learned prior counts large images as one without."""
    model, variables = _model(location_prior="learned")
    params = dict(variables["params"])
    del params["prior_location"]
    plain = model.clone(location_prior="uniform")
    large = np.random.default_rng(1).integers(0, 2, (1, 30, 40, 2)).astype(np.uint8)
    (found,) = lavae_jax.find_objects(model, variables, large)
    (other,) = lavae_jax.find_objects(plain, {**variables, "params": params}, large)
    assert found.n > 1
    np.testing.assert_array_equal(found.yx, other.yx)


def test_scenes_that_teach_the_prior():
    """The prior learns from scenes as they are, not from superposed ones."""
    images, fields = make_images(), dict(location_prior="learned")
    start = start_state(**fields)
    for share, learns in ((0.0, True), (1.0, False)):
        for recipe in (PLAIN, RECIPE):  # the latter has further updates
            one_step = compiled_step(recipe._replace(superpose=share), "elbo", **fields)
            after = one_step(start, images)[0].params["lavae"]["prior_location"]
            before = start.params["lavae"]["prior_location"]
            assert changed(before, after) == [learns], (share, recipe)
