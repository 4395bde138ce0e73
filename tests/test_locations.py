"""Draws of locations follow Eq. 3, 8 and 11 and the KL of Appendix A."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lavae_jax.latents import locations
from tests import reference, tiny_models

H, W, M = 4, 5, 4
D = H * W
N = np.array([0, 1, 3, 4], np.int32)

# distrax mixes ranks.
pytestmark = pytest.mark.standard_promotion


@pytest.fixture(name="h_loc")
def _h_loc():
    return (3 * np.random.default_rng(0).normal(size=(4, H, W))).astype(np.float32)


@partial(jax.jit, static_argnames=("straight_through", "exclusion_radius"))
def _draw_with(h_loc, n, keys, tau, **options):
    return locations.draw_locations(h_loc, n, M, keys=keys, tau=tau, **options)


def _draw(h_loc, n=N, seed=0, tau=None, **options):
    keys = jax.random.split(jax.random.key(seed), len(h_loc))
    return _draw_with(h_loc, n, keys, tau, **options)


@pytest.mark.parametrize("radius", [0, 1])
def test_log_q_and_entropy(h_loc, radius):
    """Log q and entropy of each drawn site, given the earlier ones, follow Eq. 11."""
    drawn = _draw(h_loc, exclusion_radius=radius)
    log_q, entropy = reference.location_terms(
        h_loc.astype(np.float64), np.asarray(drawn.site), N, radius
    )
    np.testing.assert_allclose(drawn.log_q, log_q, atol=1e-4)
    np.testing.assert_allclose(drawn.entropy, entropy, atol=1e-4)


def test_slots_beyond_n_are_zero(h_loc):
    """Every field is zero in the slots beyond n."""
    drawn = _draw(h_loc, tau=jnp.float32(0.5))
    np.testing.assert_array_equal(drawn.active, np.arange(M)[None] < N[:, None])
    for field in (drawn.site, drawn.log_q, drawn.entropy, drawn.z_loc):
        assert not np.asarray(field)[~np.asarray(drawn.active)].any()


def test_more_slots_change_nothing(h_loc):
    """The draws of an image do not depend on the n of the other images."""
    few = _draw(h_loc, n=np.array([0, 1, 2, 0], np.int32))
    many = _draw(h_loc, n=np.array([4, 1, 2, 4], np.int32))
    for a, b in zip(few[:4], many[:4], strict=True):
        np.testing.assert_array_equal(a[1:3], b[1:3])


def test_relaxed_draws_become_one_hot(h_loc):
    """Relaxed draws are distributions that peak at the site, and one-hot as τ → 0."""
    relaxed, cold = (_draw(h_loc, tau=jnp.float32(tau)) for tau in (0.5, 1e-4))
    one_hot = np.zeros((4, M, D))
    for b, i in np.argwhere(relaxed.active):
        one_hot[b, i, relaxed.site[b, i]] = 1
    np.testing.assert_allclose(relaxed.z_loc.sum(-1), relaxed.active, atol=1e-5)
    np.testing.assert_array_equal(relaxed.z_loc.argmax(-1), relaxed.site)
    assert np.abs(relaxed.z_loc - one_hot).max() > 0.1
    np.testing.assert_array_equal(cold.site, relaxed.site)
    np.testing.assert_allclose(cold.z_loc, one_hot, atol=1e-5)


def test_straight_through(h_loc):
    """Straight-through draws are one-hot and have the gradient of the relaxed draw."""
    weights = np.random.default_rng(1).normal(size=(4, M, D)).astype(np.float32)

    def loss(h_loc, straight_through):
        z_loc = _draw(
            h_loc, tau=jnp.float32(0.5), straight_through=straight_through
        ).z_loc
        return (z_loc * weights).sum(), z_loc

    grad = jax.grad(loss, has_aux=True)
    expected, _ = grad(h_loc, False)
    gradient, z_loc = grad(h_loc, True)
    assert set(np.unique(np.round(z_loc, 6))) == {0, 1}
    np.testing.assert_allclose(z_loc.sum(-1), np.arange(M)[None] < N[:, None])
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("radius", [0, 1])
def test_frequencies_of_ordered_draws(radius):
    """Draws are as frequent as enumerated, within three times the chance variation."""
    h, draws = np.random.default_rng(2).normal(size=(2, 3)), 20_000
    expected = reference.ordered_draws(h, 2, radius)
    h_loc = np.broadcast_to(np.float32(h), (draws, 2, 3))
    drawn = _draw(h_loc, n=np.full(draws, 2, np.int32), exclusion_radius=radius)
    counts = dict.fromkeys(expected, 0)
    for sites in map(tuple, np.asarray(drawn.site)[:, :2].tolist()):
        counts[sites] += 1
    p = np.array(list(expected.values()))
    distance = 0.5 * np.abs(np.array(list(counts.values())) / draws - p).sum()
    by_chance = 0.5 * np.sqrt(2 * p * (1 - p) / (np.pi * draws)).sum()
    assert distance < 3 * by_chance
    assert not any(counts[sites] for sites, q in expected.items() if q == 0)


def test_without_keys_the_most_likely_site_is_taken(h_loc):
    """Without keys each step takes the site with the highest logit that is left."""
    drawn = _draw_with(h_loc, N, None, None)
    for b, n in enumerate(N):
        expected = np.argsort(-h_loc[b].ravel())[:n]
        np.testing.assert_array_equal(drawn.site[b, :n], expected)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_are_finite(h_loc, scale):
    """Gradients are finite for masked and extreme logits at the lowest temperature."""

    def loss(h_loc):
        drawn = _draw(h_loc, tau=jnp.float32(0.02), exclusion_radius=1)
        return (drawn.z_loc[..., ::2].sum() + drawn.log_q + drawn.entropy).sum()

    value, gradient = jax.value_and_grad(loss)(scale * h_loc)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_entropy_gradient(h_loc):
    """Given the draw, the gradient of KL_loc equals finite differences in float64."""

    def loss(h_loc):
        return locations.kl_locations(_draw(h_loc), D).sum()

    h64 = h_loc.astype(np.float64)
    sites = np.asarray(_draw(h_loc).site)

    def expected(h):
        return -reference.location_terms(h, sites, N)[1].sum()

    gradient = jax.grad(loss)(h_loc)
    for index in [(1, 0, 0), (2, 1, 3), (3, 3, 4), (0, 2, 2)]:
        step = np.zeros_like(h64)
        step[index] = 1e-5
        slope = (expected(h64 + step) - expected(h64 - step)) / 2e-5
        np.testing.assert_allclose(gradient[index], slope, atol=1e-4)


def test_prior_of_the_locations():
    """The log prior of n locations is −Σ log(D − i + 1), as in Eq. 3."""
    expected = [reference.log_p_locations(n, D) for n in N]
    np.testing.assert_allclose(locations.log_p_locations(N, D, M), expected, rtol=1e-6)
    assert locations.log_p_locations(N, D, M)[2] == pytest.approx(
        -math.log(20 * 19 * 18)
    )


@pytest.mark.parametrize("prior", [None, (0.4, 0.1, 0.3, 0.2)])
def test_draws_from_the_prior(prior):
    """Ordered pairs of distinct sites come as often as they should; others are 0."""
    draws, sites = 12_000, 4
    log_prior = None if prior is None else jnp.log(jnp.array(prior))
    drawn = np.asarray(
        locations.draw_prior(
            jnp.full(draws, 2),
            jax.random.split(jax.random.key(0), draws),
            sites,
            3,
            log_prior,
        )
    )
    assert not drawn[:, 2].any()
    pairs, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    assert len(pairs) == 12
    assert (pairs[:, 0] != pairs[:, 1]).all()
    p = np.array(prior or [0.25] * 4)
    first, second = pairs.T
    expected = draws * p[first] * p[second] / (1 - p[first])
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("radius", [0, 1])
def test_kl_locations_is_appendix_a_in_expectation(radius):
    """The mean of the analytic term over all ordered draws from q is KL(q ‖ p)."""
    h, n = np.random.default_rng(3).normal(size=(2, 3)), 2
    draws = {s: q for s, q in reference.ordered_draws(h, n, radius).items() if q > 0}
    kl = sum(
        q * (math.log(q) - reference.log_p_locations(n, 6)) for q in draws.values()
    )
    sites = np.array(list(draws), np.int32)
    log_q, entropy = reference.location_terms(
        np.broadcast_to(h, (len(sites), 2, 3)), sites, [n] * len(sites), radius
    )
    given = locations.Locations(
        sites,
        np.ones(sites.shape, bool),
        log_q.astype(np.float32),
        entropy.astype(np.float32),
        None,
    )
    terms = np.asarray(locations.kl_locations(given, 6), np.float64)
    assert (list(draws.values()) * terms).sum() == pytest.approx(kl, abs=1e-5)


@pytest.mark.parametrize("radius", [0, 2])
def test_densities_at_given_sites_are_those_of_draws(radius):
    """Densities at the sites of draws equal those of the draws, and of float64."""
    h_loc = np.random.default_rng(0).normal(size=(4, 6, 7)).astype(np.float32)
    n = np.array([0, 3, 1, 2], np.int32)
    draw, at_sites = (
        partial(density, exclusion_radius=radius)
        for density in (locations.draw_locations, locations.at_sites)
    )

    @jax.jit
    def run(h_loc, n, keys):
        drawn = draw(h_loc, n, 3, keys=keys)
        return drawn, at_sites(h_loc, drawn.site, drawn.active)

    drawn, given = run(h_loc, n, tiny_models.image_keys(4))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
        given,
        drawn,
    )
    log_q, entropy = reference.location_terms(
        h_loc.astype(np.float64), np.asarray(drawn.site), n, radius
    )
    np.testing.assert_allclose(given.log_q, log_q, atol=1e-5)
    np.testing.assert_allclose(given.entropy, entropy, atol=1e-5)
