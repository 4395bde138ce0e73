"""Scenes are superposed without overlap, and the objects of both become proposals."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lavae_jax
from lavae_jax import objectives
from lavae_jax.latents.locations import at_sites, draw_locations
from lavae_jax.training import superposition
from tests import reference, tiny_models

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

B, M, RADIUS, TEMPERATURE = 5, 4, 1, 2.0
SUPERPOSED = np.array([True, False, True, True, True])
SHIFT = np.array([[1, -2], [0, 0], [0, 1], [-30, 0], [0, 30]], np.int32)


_superpose = jax.jit(superposition.superpose, static_argnums=(4, 5))


def _touching_shifts(lit, other):
    """Returns the shifts by which `other` touches `lit` and does not overlap it."""
    height, width = lit.shape
    pixels, found = np.argwhere(other), set()
    for shift in itertools.product(range(-height, height), range(-width, width)):
        moved = pixels + shift
        if not len(moved) or (moved < 0).any() or (moved >= lit.shape).any():
            continue
        distances = np.abs(moved[:, None] - np.argwhere(lit)[None]).max(axis=2)
        if distances.size and distances.min() == 1:
            found.add(shift)
    return found


def test_shifts_at_which_scenes_touch():
    """Draws are uniform over all touching shifts, and 0 where there are none."""
    rng, num = np.random.default_rng(0), 4_000
    lit = rng.random((6, 5, 7)) < 0.1
    other = np.zeros_like(lit)
    other[:, 1:3, 2:5] = rng.random((6, 2, 3)) < 0.5
    lit[4], other[5] = False, False
    draw = jax.jit(superposition.touching_shift)
    for b in range(6):
        repeated = (np.repeat(a[b : b + 1], num, axis=0) for a in (lit, other))
        shifts = draw(*repeated, tiny_models.image_keys(num, seed=b))
        found, times = np.unique(np.asarray(shifts), axis=0, return_counts=True)
        expected = _touching_shifts(lit[b], other[b])
        assert bool(expected) == (b < 4)
        assert set(map(tuple, found.tolist())) == (expected or {(0, 0)})
        each = num / len(found)
        np.testing.assert_allclose(times, each, atol=5 * each**0.5)


def test_scenes_are_superposed_without_overlap():
    """Each result is the sum of image and moved partner, or the image as it was."""
    single = np.zeros((5, 4, 6, 3), np.float32)
    single[0, 0:2, 0:2, 1] = 1
    single[1, 1:3, 1:3, 2] = 1  # overlaps the one before, in another colour
    single[2, :, :, 0] = 1  # leaves no room for the one before
    single[4, 0:1, 0:2] = 1  # its partner is empty
    chosen = np.array([True, True, True, False, True])
    lit, keys = single.any(axis=-1), tiny_models.image_keys(5)
    found = _superpose(single, lit, chosen, keys, None, True)
    assert found.superposed.tolist() == [True, True, False, False, True]
    assert found.shift[0].any() and found.shift[1].any() and not found.shift[4].any()
    for b in range(5):
        other = np.roll(single[b - 1], found.shift[b], axis=(0, 1))
        expected = single[b] + other * found.superposed[b]
        np.testing.assert_array_equal(found.x[b], expected)
    assert found.x.max() == 1


def test_scenes_that_stay_where_they_are():
    """Unmoved scenes are superposed unless a pixel is lit in both, in any colour."""
    single = (np.random.default_rng(0).random((8, 5, 6, 3)) < 0.04).astype(np.float32)
    other = np.roll(single, 1, axis=0)
    overlap = (single.any(axis=-1) & other.any(axis=-1)).any(axis=(1, 2))
    chosen = np.arange(8) != 2
    keys = tiny_models.image_keys(8)
    found = _superpose(single, single.any(axis=-1), chosen, keys, None, False)
    expected = chosen & ~overlap
    assert 1 < expected.sum() < 7 and not found.shift.any()
    np.testing.assert_array_equal(found.superposed, expected)
    sums = single + other * expected[:, None, None, None]
    np.testing.assert_array_equal(found.x, sums)


def test_objects_are_put_before_another_background():
    """Where objects are opaque, only their pixels are put on the other image."""
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(3, 5, 6, 2)).astype(np.float32)
    covered = np.zeros((3, 5, 6), bool)
    covered[0, 0, 1:3], covered[1, 3:, 4], covered[2, 2, 2] = True, True, True
    keys, chosen = tiny_models.image_keys(3), np.array([True, True, False])
    found = _superpose(x, covered, chosen, keys, None, True)
    assert found.superposed.tolist() == [True, True, False]
    for b in range(3):
        shift = tuple(found.shift[b].tolist())
        other, on_top = (np.roll(a[b - 1], shift, (0, 1)) for a in (x, covered))
        on_top &= found.superposed[b]
        expected = np.where(on_top[..., None], other, x[b])
        np.testing.assert_array_equal(found.x[b], expected)


def test_covered_pixels_are_those_that_the_model_paints():
    """Pixels are covered where a sprite changes the background half its most."""
    fields = {"pixels": "gaussian", "sigma": 0.3, "background": "constant"}
    model = tiny_models.tiny_model((9, 8, 2), compositing="alpha", **fields)
    variables = tiny_models.random_variables(model, scale=1.0)
    x = tiny_models.grey_images(model, 6)
    model = tiny_models.counting_some(model, variables, 255 * x)
    covered = jax.jit(lambda x: superposition.covered_pixels(model.bind(variables), x))(
        x
    )
    scene = lavae_jax.infer(model, variables, x)
    assert 0 < scene.n.sum() < 6 * model.max_objects
    masks = np.asarray(lavae_jax.masks(model, variables, scene))
    for b in range(6):
        expected = np.zeros((9 + 2, 8 + 2), bool)
        for slot in np.flatnonzero(scene.active[b]):
            row, column = scene.yx[b, slot]
            mask = masks[b, slot] > 0.5
            expected[row : row + 3, column : column + 3] |= mask
        expected = expected[1:-1, 1:-1]
        np.testing.assert_array_equal(covered[b], expected)
    assert 0 < covered.mean() < 1


@pytest.mark.parametrize("radius", [0, 2])
def test_densities_at_given_sites_are_those_of_draws(radius):
    """Densities at the sites of draws equal those of the draws, and of float64."""
    h_loc = np.random.default_rng(0).normal(size=(4, 6, 7)).astype(np.float32)
    n = np.array([0, 3, 1, 2], np.int32)

    @jax.jit
    def run(h_loc, n, keys):
        drawn = draw_locations(h_loc, n, 3, keys=keys, exclusion_radius=radius)
        given = at_sites(h_loc, drawn.site, drawn.active, exclusion_radius=radius)
        return drawn, given

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


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, variables, x):
    return model.bind(variables).location_logits(x)


@functools.partial(jax.jit, static_argnums=0)
def _both(model, variables, single, scenes):
    bound = model.bind(variables)
    h_single = bound.location_logits(single)
    return superposition.objects_of_both(bound, scenes, h_single)


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
        superposition.Superposed(x, SUPERPOSED, SUPERPOSED, SHIFT),
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
    return superposition.wake(
        model.bind(variables),
        scenes,
        _both(model, variables, single, scenes),
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
