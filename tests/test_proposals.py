"""Objects that h_loc may miss become proposals, which the ELBO weighs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lavae_jax import objectives
from lavae_jax.latents import counts
from lavae_jax.latents.locations import at_sites
from lavae_jax.training import proposals, superposition
from tests import reference, tiny_models

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

B, M, RADIUS, TEMPERATURE = 5, 4, 1, 2.0
CHOSEN = np.array([True, False, True, True, True])
SUPERPOSED = np.array([True, False, True, True, False])  # the last had no place
SHIFT = np.array([[1, -2], [0, 0], [0, 1], [-30, 0], [0, 30]], np.int32)


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, variables, x):
    return model.bind(variables).location_logits(x)


@functools.partial(jax.jit, static_argnums=0)
def _both(model, variables, single, scenes):
    bound = model.bind(variables)
    h_single = bound.location_logits(single)
    return proposals.objects_of_both(bound, scenes, h_single)


@functools.cache
def _problem():
    """Makes a model, its variables, images, and scenes as if they were superposed."""
    model = tiny_models.tiny_model(max_objects=M, exclusion_radius=RADIUS)
    variables = tiny_models.random_variables(model)
    single = tiny_models.binary_images(model, B)
    # With this threshold images have from one object to three.
    h_loc = np.asarray(_logits(model, variables, single))
    heights = [[h.flat[site] for site in reference.peaks(h, RADIUS)] for h in h_loc]
    fourth = [np.sort(of_one)[-4] for of_one in heights]
    model = model.clone(count_threshold=float(max(fourth)))
    both = np.maximum(single, np.roll(single, 1, axis=0))  # any image will do
    x = np.where(SUPERPOSED[:, None, None, None], both, single)
    return (
        model,
        variables,
        single,
        superposition.Superposed(x, CHOSEN, SUPERPOSED, SHIFT),
    )


def _objects(model, variables, single):
    """Returns the objects' sites in each image alone: lists of row * W + column."""
    found = []
    for h in np.asarray(_logits(model, variables, single)):
        n = reference.f_count(h[None], model.count_threshold, M, RADIUS)[0]
        left, sites = h.ravel().copy(), []
        for _ in range(n):
            sites.append(int(left.argmax()))
            left[list(reference.disc(sites[-1], *h.shape, RADIUS))] = -np.inf
        found.append(sites)
    return found


def test_the_objects_of_both_scenes():
    """An image's objects come first, then a superposed partner's, M at most.

    The partner's objects move with it, and stay inside the image.
    """
    model, variables, single, scenes = _problem()
    found = _both(model, variables, single, scenes)
    alone = _objects(model, variables, single)
    height, width, _ = model.image_shape
    numbers = []
    for b in range(B):
        sites = list(alone[b])
        for site in alone[b - 1] if SUPERPOSED[b] else []:
            row, column = np.array([site // width, site % width]) + SHIFT[b]
            row, column = np.clip([row, column], 0, [height - 1, width - 1])
            sites.append(int(row * width + column))
        numbers.append(len(sites))
        assert found.site[b, found.active[b]].tolist() == sites[:M]
    assert max(numbers) > M  # more than there are slots for
    assert len({len(sites) for sites in alone}) > 1


def _wake(model, variables, single, scenes, h_loc, elbo):
    both = _both(model, variables, single, scenes)
    return proposals.wake(
        model.bind(variables),
        scenes,
        proposals.Proposals(both, SUPERPOSED[:, None]),
        h_loc,
        elbo,
        tiny_models.image_keys(B, seed=1),
        jnp.float32(0.1),
        TEMPERATURE,
    )


def _absent(model, h_loc, locations):
    """Returns Σ log (1 − σ) over the peaks that have no object within the radius."""
    total = np.zeros(B)
    for b, h in enumerate(h_loc):
        objects = np.asarray(locations.site)[b, np.asarray(locations.active)[b]]
        for site in reference.peaks(h, RADIUS):
            row, column = np.abs(
                np.array(np.unravel_index(site, h.shape))[:, None]
                - np.array(np.unravel_index(objects, h.shape))
            )
            if not (np.maximum(row, column) <= max(1, RADIUS)).any():
                height = (h.flat[site] - model.count_threshold) / TEMPERATURE
                total[b] += np.log(reference.sigmoid(-height))
    return total


@functools.partial(jax.jit, static_argnums=0)
def _reconstruct(model, variables, x, both, n):
    keys = tiny_models.image_keys(B, seed=1)
    return objectives.reconstruct(model.bind(variables), x, both, n, keys, 0.1)


@pytest.mark.parametrize("draws_are", ["as good", "far better", "far worse"])
def test_the_weights_of_proposals(draws_are):
    """Log q of a proposal is weighted by its share of Σ exp(ELBO), as in float64.

    Log q is of the objects' sites and of their number. Where draws are better by far,
    nothing is learned from the proposals.
    """
    model, variables, single, scenes = _problem()
    h_loc = _logits(model, variables, scenes.x)
    both = _both(model, variables, single, scenes)
    both = at_sites(h_loc, both.site, both.active, exclusion_radius=RADIUS)
    n = np.asarray(both.active).sum(axis=1)
    terms = _reconstruct(model, variables, scenes.x, both, n)
    proposed = np.float64(terms.log_px - terms.kl_app - terms.kl_loc)
    shift = {"as good": 0, "far better": 1e3, "far worse": -1e3}[draws_are]
    noise = np.random.default_rng(2).normal(size=(B, 3))
    elbo = (proposed[:, None] + noise + shift).astype(np.float32)

    h64, sites = np.float64(h_loc), np.asarray(both.site)
    with np.errstate(divide="ignore"):  # sites that exclude each other
        log_q = reference.location_terms(h64, sites, n, RADIUS)[0].sum(axis=1)
    heights = np.take_along_axis(h64.reshape(B, -1), sites, axis=1)
    present = np.log(reference.sigmoid((heights - model.count_threshold) / TEMPERATURE))
    log_q += np.where(both.active, present, 0).sum(axis=1) + _absent(model, h64, both)
    ratios = np.exp(np.clip(elbo - proposed[:, None], -700, 700)).sum(axis=1)
    possible = SUPERPOSED & np.isfinite(log_q)
    expected = np.where(possible, np.where(possible, log_q, 0) / (1 + ratios), 0).mean()
    assert 0 < possible.sum() < B
    found = jax.jit(_wake, static_argnums=0)(
        model, variables, single, scenes, h_loc, elbo
    )
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (abs(expected) < 1e-6) == (draws_are == "far better")


@pytest.mark.parametrize("one_more", [False, True])
def test_which_proposals_are_valid(one_more):
    """Single scenes get one only with one more object, full scenes none with it."""
    model, variables, single, scenes = _problem()

    @jax.jit
    def propose(variables):
        bound = model.bind(variables)
        h_single, noise = bound.location_logits(single), jnp.float32(0.1)
        both = proposals.objects_of_both(bound, scenes, h_single)
        site = proposals.worst_site(bound, scenes.x, both, noise)
        found = proposals.propose(bound, scenes, h_single, noise, one_more)
        return found, both, proposals.with_one_more(both, site)

    found, both, more = propose(variables)
    has_room = np.asarray(both.active).sum(axis=1) < M
    assert 0 < has_room.sum() < B
    valid = np.stack([SUPERPOSED, has_room], axis=1)
    np.testing.assert_array_equal(found.valid, valid if one_more else valid[:, :1])
    expected = more if one_more else both
    jax.tree.map(np.testing.assert_array_equal, found.locations, expected)


def test_proposals_share_their_weight():
    """Of two proposals, each is weighted by its share of Σ exp(ELBO) over all."""
    model, variables, single, scenes = _problem()
    h_loc = _logits(model, variables, scenes.x)
    keys = tiny_models.image_keys(B, seed=1)

    @jax.jit
    def run(h_loc):
        bound, noise = model.bind(variables), jnp.float32(0.1)
        h_single = bound.location_logits(single)
        proposed = proposals.propose(bound, scenes, h_single, noise, one_more=True)
        site, active = proposed.locations.site, proposed.locations.active
        twice = jnp.repeat(h_loc, 2, axis=0)
        given = at_sites(twice, site, active, exclusion_radius=RADIUS)
        log_q = given.log_q.sum(axis=1) + counts.log_q_count(
            twice, given, model.count_threshold, TEMPERATURE, RADIUS
        )
        n = given.active.sum(axis=1)
        both_keys = jnp.repeat(keys, 2)
        terms = objectives.reconstruct(bound, scenes.x, given, n, both_keys, noise)
        chosen = jnp.repeat(scenes.chosen, 2)  # p(n) is for single scenes alone
        of_proposals = (terms.elbo + jnp.where(chosen, terms.kl_n, 0)).reshape(B, 2)
        # Draws as good as one of the two.
        elbo = of_proposals[:, :1] + jnp.array([[0.0, -1.0]])
        found = proposals.wake(
            bound, scenes, proposed, h_loc, elbo, keys, noise, TEMPERATURE
        )
        return found, elbo, of_proposals, log_q, proposed.valid

    found, elbo, of_proposals, log_q, valid = jax.device_get(run(h_loc))
    log_q = np.float64(log_q).reshape(B, 2)
    all_elbo = np.concatenate([elbo, of_proposals], axis=1).astype(np.float64)
    shares = special.softmax(all_elbo, axis=1)[:, 2:]
    possible = valid & (log_q > -1e8)
    expected = np.where(possible, shares * log_q, 0).sum(axis=1).mean()
    assert found == pytest.approx(expected, rel=1e-4)
    assert (shares[possible] > 1e-6).any()


def test_proposals_teach_h_loc_alone():
    """No gradient reaches the other networks, nor h_loc of the single scenes."""
    model, variables, single, scenes = _problem()

    def of_all(params, h_loc):
        found = {**variables, "params": params}
        return _wake(model, found, single, scenes, h_loc, jnp.full((B, 1), -1e4))

    h_loc = _logits(model, variables, scenes.x)
    params, slopes = jax.jit(jax.grad(of_all, argnums=(0, 1)))(
        variables["params"], h_loc
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(params))
    assert np.abs(slopes).max() > 0.01
