"""The model's own opinion of where its objects should be."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax import refinement
from lavae_jax.objectives import ElboTerms, Reconstruction
from lavae_jax.types import Array, Locations
from tests import reference, tiny_models

# distrax mixes dtypes.
pytestmark = pytest.mark.standard_promotion

H, W, M, S, EPSILON = 16, 20, 3, 7, 1e-2


class Square(nn.Module):
    """Paints 3×3 pixels in the middle of a sprite, whatever the appearance."""

    @nn.compact
    def __call__(self, z_app: Array, valid: Array, train: bool) -> Array:
        """[A, L] to [A, S, S, 1]."""
        sprite = jnp.zeros((S, S, 1)).at[2:5, 2:5].set(1)
        return jnp.tile(sprite[None], (z_app.shape[0], 1, 1, 1))


@pytest.fixture(scope="module", name="bound")
def _bound():
    model = tiny_models.tiny_model((H, W, 1), sprite_size=S, epsilon=EPSILON)
    model = model.clone(f_sprite=Square())
    return model.bind(tiny_models.random_variables(model))


def _image(*centres):
    """One image with 3×3 squares."""
    x = np.zeros((1, H, W, 1), np.float32)
    for row, column in centres:
        x[0, row - 1 : row + 2, column - 1 : column + 2] = 1
    return x


def _square(height):
    sprite = np.zeros((S, S, 1), np.float32)
    sprite[2:5, 2:5] = height
    return sprite


def _reconstruction(objects, kl_app=0.0):
    """One image with the given sprites at the given places."""
    sites, sprites = np.zeros((1, M), np.int32), np.zeros((1, M, S, S, 1), np.float32)
    for i, ((row, column), sprite) in enumerate(objects):
        sites[0, i], sprites[0, i] = row * W + column, sprite
    active = np.arange(M)[None] < len(objects)
    maps = reference.one_hot_maps(sites, active, H, W)
    canvas = reference.convolve(sprites, maps).astype(np.float32)
    zeros = np.zeros((1, M), np.float32)
    locations = Locations(sites, active, zeros, zeros, None)
    terms = ElboTerms(*[np.zeros(1, np.float32)] * 4)
    return Reconstruction(
        terms, locations, np.where(active, np.float32(kl_app), 0), sprites, canvas
    )


def _refine(bound, x, result):
    return jax.jit(lambda x, r: refinement.refine(bound, x, r, EPSILON))(x, result)


def test_merits(bound):
    """Against loops over the whole image, for sprites that overlap and are cut."""
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(1, H, W, 1)) < 0.4).astype(np.float32)
    objects = [
        (place, rng.uniform(size=(S, S, 1)).astype(np.float32))
        for place in [(1, 2), (3, 5), (14, 19)]
    ]
    result = _reconstruction(objects, kl_app=7.0)
    cover = refinement.coverage(bound, result.locations)
    centres, gains, own = refinement.merits(bound, x, result, cover, EPSILON)
    canvas = np.float64(result.canvas)
    for i, ((row, column), _) in enumerate(objects):
        alone = np.zeros((1, M), bool)
        alone[0, i] = True
        maps = reference.one_hot_maps(result.locations.site, alone, H, W)
        sprite = reference.convolve(np.float64(result.sprites), maps)
        share = x * sprite / np.maximum(canvas, 1e-3)
        mass = share[0, ..., 0]
        total = mass.sum() + 1e-3
        rows, columns = np.mgrid[:H, :W]
        expected = [
            row + (mass * (rows - row)).sum() / total,
            column + (mass * (columns - column)).sum() / total,
        ]
        np.testing.assert_allclose(centres[0, i], expected, atol=1e-3)
        without = np.maximum(canvas - sprite, 0)
        gain = reference.log_likelihood(x, canvas, EPSILON).sum()
        gain -= reference.log_likelihood(x, without, EPSILON).sum()
        assert gains[0, i] == pytest.approx(gain - 7 - np.log(H * W), abs=1e-2)
        distances = [
            np.maximum(abs(rows - y), abs(columns - z)) for (y, z), _ in objects
        ]
        reached = sum(d <= S // 2 + refinement.REACH for d in distances)
        np.testing.assert_array_equal(cover[0, ..., 0], reached)
        inside = (distances[i] <= S // 2) & (reached == 1)
        assert own[0, i] == x[0, ..., 0][inside].sum()
    assert own[0, 2] > 0


def test_an_object_is_moved_to_its_pixels(bound):
    """Drawn two pixels off, it is to be at the centre of mass of what it explains."""
    x = _image((6, 8))
    full = np.full((S, S, 1), 0.9, np.float32)
    target = _refine(bound, x, _reconstruction([((6, 10), full)]))
    assert target.moved[0, 0]
    np.testing.assert_allclose(
        target.centres[0, 0], np.array([6, 8]) + refinement.OFFSET, atol=1e-2
    )


def test_an_object_in_its_place_stays(bound):
    """Neither moved nor dropped, and nothing is added beside it."""
    target = _refine(bound, _image((6, 8)), _reconstruction([((6, 8), _square(1))]))
    np.testing.assert_array_equal(target.valid, [[1, 0, 0, 0]])
    for changed in (target.moved, target.dropped, target.added):
        assert not changed.any()


@pytest.mark.parametrize("height", [0.0, 0.3])
def test_an_object_that_explains_nothing_more_is_dropped(bound, height):
    """A blank one, and a faint second one on an object that is well explained."""
    objects = [((6, 8), _square(0.99)), ((6, 9), _square(height))]
    target = _refine(bound, _image((6, 8)), _reconstruction(objects))
    np.testing.assert_array_equal(target.dropped, [[0, 1, 0, 0]])
    np.testing.assert_array_equal(target.valid, [[1, 0, 0, 0]])


def test_an_object_is_dropped_if_its_kl_costs_more_than_it_wins(bound):
    """A square wins 9 log(0.99 / 0.01) = 41 nats; log D is 5.8."""
    objects = [((6, 8), _square(1)), ((6, 11), _square(1))]
    for kl_app, dropped in [(30.0, False), (40.0, True)]:
        result = _reconstruction(objects, kl_app)
        target = _refine(bound, _image((6, 8), (6, 11)), result)
        assert (target.dropped[0, :2] == dropped).all()


def _dots():
    """One image with four pixels that no square explains."""
    x = _image()
    x[0, [8, 8, 12, 12], [12, 16, 12, 16]] = 1
    return x


def test_an_object_stays_where_no_other_reaches(bound):
    """Though its sprite makes it worse; with another that reaches it, it goes."""
    alone = [((10, 14), _square(1))]
    assert not _refine(bound, _dots(), _reconstruction(alone)).dropped.any()
    two = [*alone, ((10, 13), _square(0))]
    assert _refine(bound, _dots(), _reconstruction(two)).dropped[0, :2].all()


def test_an_object_of_an_unknown_kind_is_added(bound):
    """Where no object reaches, though its sprite would make it worse."""
    target = _refine(bound, _dots(), _reconstruction([]))
    assert target.added[0, M]
    np.testing.assert_allclose(target.centres[0, M], (10, 14))


def test_a_single_pixel_may_make_an_object(bound):
    """Where so few suffice: it is added, and stays, though its sprite is none of it."""
    x = _image()
    x[0, 10, 14] = 1
    there = ((10, 14), _square(1))
    for orphans, expected in ((1, True), (2, False)):
        added, kept = (
            refinement.refine(bound, x, _reconstruction(objects), EPSILON, 19, orphans)
            for objects in ([], [there])
        )
        assert bool(added.added[0, M]) == expected
        assert bool(kept.valid[0, 0]) == expected
    np.testing.assert_allclose(kept.centres[0, 0] - refinement.OFFSET, (10, 14))


def test_a_few_pixels_are_nothing_beside_large_objects(bound):
    """What makes an object grows with the area of objects, its reach with the side."""
    result = _reconstruction([])
    target = refinement.refine(bound, _dots(), result, EPSILON, object_size=38)
    assert not target.added.any()
    one = _reconstruction([((8, 10), _square(1))]).locations
    side = S + 2 * 2 * refinement.REACH
    assert refinement.coverage(bound, one, object_size=38).sum() == side**2


@pytest.mark.parametrize("centre", [(11, 15), (1, 1), (14, 18)])
def test_a_missing_object_is_added(bound, centre):
    """Where its pixels are, also in a corner."""
    x = _image((6, 8), centre)
    target = _refine(bound, x, _reconstruction([((6, 8), _square(1))]))
    np.testing.assert_array_equal(target.valid, [[1, 0, 0, 1]])
    np.testing.assert_array_equal(target.added, [[0, 0, 0, 1]])
    np.testing.assert_allclose(target.centres[0, M], centre)
    assert refinement.densest_site(_image(centre)[..., 0])[0] == (
        centre[0] * W + centre[1]
    )


def test_a_missing_object_beside_another_is_added(bound):
    """Within the other's reach it must make the likelihood better."""
    beside = (6, 12)
    target = _refine(
        bound, _image((6, 8), beside), _reconstruction([((6, 8), _square(1))])
    )
    np.testing.assert_array_equal(target.added, [[0, 0, 0, 1]])
    np.testing.assert_allclose(target.centres[0, M], beside)


def test_noise_is_not_an_object(bound):
    """A single pixel isn't worth a square."""
    x = _image()
    x[0, 10, 14] = 1
    target = _refine(bound, x, _reconstruction([]))
    assert not target.added.any()


def test_no_gradient_flows(bound):
    """The target is one: what it was made from gets no gradient."""

    def total(canvas):
        result = _reconstruction([((6, 10), _square(0.9))])._replace(canvas=canvas)
        return refinement.refine(bound, _image((6, 8)), result, EPSILON).centres.sum()

    canvas = _reconstruction([((6, 10), _square(0.9))]).canvas
    assert not jax.grad(total)(canvas).any()
