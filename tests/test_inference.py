"""The Python API infers, renders, bounds and generates as the equations say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lavae_jax
from tests import reference, tiny_models

# distrax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

B = 4


@pytest.fixture(scope="module", name="trained")
def _trained():
    model = tiny_models.tiny_model(exclusion_radius=1, count_threshold=6.0)
    variables = tiny_models.random_variables(model)
    return model, variables, tiny_models.binary_images(model, B)


def test_infer_takes_the_most_likely_sites(trained):
    """Without a key, f_count objects lie at the highest logits, the same every time.

    A scene of three objects, the most that this model infers, says so.
    """
    model, variables, x = trained
    scene = lavae_jax.infer(model, variables, x)
    h_loc = np.asarray(model.apply(variables, x, method="location_logits"))
    np.testing.assert_array_equal(
        scene.n, reference.f_count(h_loc, model.count_threshold, model.max_objects)
    )
    assert set(np.asarray(scene.n).tolist()) >= {0, 1, 3}
    np.testing.assert_array_equal(scene.is_capped, scene.n == 3)
    np.testing.assert_array_equal(scene.active.sum(1), scene.n)
    for b in np.flatnonzero(scene.n):
        highest = np.unravel_index(h_loc[b].argmax(), h_loc[b].shape)
        np.testing.assert_array_equal(scene.yx[b, 0], highest)
    jax.tree.map(
        np.testing.assert_array_equal, scene, lavae_jax.infer(model, variables, x)
    )


def test_infer_draws(trained):
    """With a key, a scene depends on it, and slots without an object are zeros."""
    model, variables, x = trained
    scenes = [
        lavae_jax.infer(model, variables, x, jax.random.key(seed)) for seed in (0, 0, 1)
    ]
    jax.tree.map(np.testing.assert_array_equal, *scenes[:2])
    assert not np.array_equal(scenes[0].z_app, scenes[2].z_app)
    for scene in scenes:
        assert scene.yx.shape == (B, model.max_objects, 2)
        assert not np.asarray(scene.z_app)[~np.asarray(scene.active)].any()
        assert not np.asarray(scene.yx)[~np.asarray(scene.active)].any()


def test_render_paints_the_sprites_at_their_places(trained):
    """Renderings are Eq. 4 of what `infer` and `sprites` give, in [ε, 1 − ε]."""
    model, variables, x = trained
    scene = lavae_jax.infer(model, variables, x)
    sprites = lavae_jax.sprites(model, variables, scene)
    assert sprites.shape == (B, model.max_objects, 3, 3, 2)
    assert not np.asarray(sprites)[~np.asarray(scene.active)].any()
    H, W, _ = model.image_shape
    sites = np.asarray(scene.yx[..., 0] * W + scene.yx[..., 1])
    maps = reference.one_hot_maps(sites, np.asarray(scene.active), H, W)
    canvas = reference.convolve(np.asarray(sprites, np.float64), maps)
    np.testing.assert_allclose(
        lavae_jax.render(model, variables, scene),
        reference.pixel_mean(canvas, model.epsilon),
        atol=1e-5,
    )


def test_the_bound_is_the_mean_weight(trained):
    """The bound is the log of the mean weight; a key per image fixes its weights."""
    model, variables, x = trained
    keys = tiny_models.image_keys(B)
    log_w = lavae_jax.log_weights(model, variables, x, keys, 3)
    assert log_w.shape == (3, B)
    bound = lavae_jax.log_likelihood_bound(model, variables, x, keys, 3)
    highest = np.float64(log_w).max(0)
    expected = highest + np.log(np.exp(np.float64(log_w) - highest).mean(0))
    np.testing.assert_allclose(bound, expected, rtol=1e-5)

    part = lavae_jax.log_weights(model, variables, x[2:3], keys[2:3], 3)
    np.testing.assert_allclose(part, log_w[:, 2:3], rtol=1e-5)


def test_generate(trained):
    """`prior_n` sets n: without objects the canvas is empty, with three it is not."""
    model, variables, _ = trained
    key = jax.random.key(0)
    images = lavae_jax.generate(model, variables, key, 5, prior_n=[1, 0, 0, 0])
    assert images.shape == (5, *model.image_shape)
    np.testing.assert_allclose(images, model.epsilon, rtol=1e-5)
    images = lavae_jax.generate(model, variables, key, 5, prior_n=[0, 0, 0, 1])
    assert (images.max((1, 2, 3)) > 2 * model.epsilon).all()
    assert ((images >= 0) & (images <= 1)).all()


def test_generate_follows_the_learned_prior(trained):
    """The share of empty images is p(n = 0), within four standard errors."""
    model, variables, _ = trained
    num = 2_000
    logits = np.asarray(variables["params"]["prior_n_logits"])
    p = np.exp(reference.log_p_n(0, logits))
    images = lavae_jax.generate(model, variables, jax.random.key(1), num)
    empty = (images.max((1, 2, 3)) < 1.01 * model.epsilon).mean()
    assert abs(empty - p) < 4 * np.sqrt(p * (1 - p) / num)


@pytest.mark.parametrize(
    ("prior_n", "message"),
    [
        ([0.5, 0.5], r"must hold 4 probabilities.*got \[0.5, 0.5\]"),
        ([0.5, 0.2, 0.2, 0.2], "sum to 1: got"),
    ],
)
def test_impossible_priors_are_refused(trained, prior_n, message):
    """Priors of a wrong length or sum are refused, and the message says which."""
    model, variables, _ = trained
    with pytest.raises(ValueError, match=message):
        lavae_jax.generate(model, variables, jax.random.key(0), 1, jnp.array(prior_n))
