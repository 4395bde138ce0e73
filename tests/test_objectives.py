"""Eq. 6, Appendix A and the bound of Table 1 equal float64 references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.configs import dsprites
from experiments.run import build
from lavae_jax import objectives
from lavae_jax.latents import appearance
from lavae_jax.latents.locations import draw_locations
from tests import reference, tiny_models

# distrax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

B = 4

_elbo = jax.jit(objectives.elbo, static_argnums=0)
_log_weights = jax.jit(objectives.log_weights, static_argnums=(0, 4))


def _model(image_shape=(8, 10, 2), **fields):
    model = tiny_models.tiny_model(image_shape, **fields)
    variables = tiny_models.random_variables(model)
    return model, variables, tiny_models.binary_images(model, B)


def _given_networks(model, variables, x, keys, tau=None):
    """Returns what networks and draws give, in float64, for references in NumPy."""

    def run(x, keys):
        bound = model.bind(variables)
        key_loc, key_app = jax.vmap(jax.random.split)(keys).T
        h_loc = bound.location_logits(x)
        n = bound.count(h_loc)
        locations = draw_locations(
            h_loc,
            n,
            model.max_objects,
            keys=key_loc,
            tau=tau,
            exclusion_radius=model.exclusion_radius,
        )
        parameters = bound.appearance(bound.appearance_features(x), locations)
        z_app = appearance.draw(parameters, key_app)
        sprites = bound.sprites(z_app, locations.active)
        return h_loc, n, locations, parameters, z_app, sprites

    h_loc, n, locations, parameters, z_app, sprites = jax.jit(run)(x, keys)
    h_loc, z_app, sprites = (np.asarray(a, np.float64) for a in (h_loc, z_app, sprites))
    parameters = reference.float64(parameters)
    return h_loc, np.asarray(n), locations, parameters, z_app, sprites


def _log_px(model, x, sprites, maps):
    canvas = reference.convolve(sprites, np.asarray(maps, np.float64))
    return reference.log_likelihood(x, canvas, model.epsilon).sum((1, 2, 3))


@pytest.mark.parametrize("relaxed", [False, True])
def test_elbo_terms(relaxed):
    """Every term of Eq. 6 equals NumPy's, for hard and for relaxed draws."""
    fields = {"count_threshold": 6.0}
    if relaxed:
        fields = {"appearance_net": "trunk", "gamma": 0.2, "count_threshold": 0.3}
    model, variables, x = _model(**fields)
    keys = tiny_models.image_keys(B)
    tau = jnp.float32(0.5) if relaxed else None
    h_loc, n, locations, parameters, _, sprites = _given_networks(
        model, variables, x, keys, tau
    )

    @jax.jit
    def reconstruct(x, locations, n, keys):
        _, key_app = jax.vmap(jax.random.split)(keys).T
        return objectives.reconstruct(model.bind(variables), x, locations, n, key_app)

    terms = reconstruct(x, locations, n, keys)

    H, W, _ = model.image_shape
    sites, active = np.asarray(locations.site), np.asarray(locations.active)
    maps = reference.one_hot_maps(sites, active, H, W)
    if relaxed:
        maps = locations.z_loc.reshape(maps.shape)
    np.testing.assert_array_equal(
        n, reference.f_count(h_loc, model.count_threshold, model.max_objects)
    )
    assert len(set(n)) > 1
    entropy = reference.location_terms(h_loc, sites, n)[1].sum(1)
    log_p_loc = np.array([reference.log_p_locations(k, H * W) for k in n])
    logits = variables["params"]["prior_n_logits"]
    expected = objectives.ElboTerms(
        log_px=_log_px(model, x, sprites, maps),
        kl_app=(reference.gaussian_kl(*parameters) * active).sum(1),
        kl_loc=-log_p_loc - entropy,
        kl_n=np.array([-reference.log_p_n(k, logits) for k in n]),
    )
    assert terms.kl_background is expected.kl_background is None
    for name, term in zip(terms._fields[:4], expected, strict=False):
        np.testing.assert_allclose(
            getattr(terms, name), term, rtol=1e-4, atol=1e-4, err_msg=name
        )
    np.testing.assert_allclose(terms.elbo, expected.elbo, rtol=1e-4, atol=1e-3)
    if not relaxed:
        exact = _elbo(model, variables, x, keys)
        np.testing.assert_allclose(exact.elbo, expected.elbo, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("appearance_net", "tau"), [("glimpse", None), ("trunk", 0.5)])
def test_several_draws_per_image(appearance_net, tau):
    """K draws of n and z_loc in one call give what a call for each of them gives."""
    model, variables, x = _model(appearance_net=appearance_net)
    num_draws = 3
    keys = tiny_models.image_keys(B * num_draws)
    n = np.random.default_rng(0).integers(0, 4, B * num_draws).astype(np.int32)

    @jax.jit
    def draw(x, n, keys):
        h_loc = jnp.repeat(model.bind(variables).location_logits(x), num_draws, axis=0)
        return draw_locations(h_loc, n, model.max_objects, keys=keys, tau=tau)

    @jax.jit
    def reconstruct(x, locations, n, keys):
        bound = model.bind(variables)
        appearance = bound.appearance(bound.appearance_features(x), locations)
        terms = objectives.reconstruct(bound, x, locations, n, keys)
        return appearance, terms

    locations = draw(x, n, keys)
    together = reconstruct(x, locations, n, keys)
    assert together[1].elbo.shape == (B * num_draws,)
    for k in range(num_draws):
        one, found = jax.tree.map(
            lambda a, k=k: a[k::num_draws], ((locations, n, keys), together)
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
            found,
            reconstruct(x, *one),
        )


def test_importance_bound():
    """The bound is the log of the mean weight of K draws of z_app at the same sites."""
    model, variables, x = _model(count_threshold=6.0)
    keys, num_draws = tiny_models.image_keys(B), 3
    _, n, locations, parameters, *_ = _given_networks(model, variables, x, keys)

    @jax.jit
    def run(locations, parameters):
        bound = model.bind(variables)
        terms, mean = objectives.importance_bound(bound, x, locations, n, keys, 3)
        each = jax.vmap(lambda key: jax.random.split(key, num_draws))(keys)
        z_app = jax.vmap(appearance.draw, (None, 1))(parameters, each)
        sprites = [bound.sprites(z, locations.active) for z in z_app]
        return terms, mean, z_app, sprites

    q = appearance.Appearance(*(a.astype(np.float32) for a in parameters))
    terms, mean, z_app, sprites = run(locations, q)
    sites, active = np.asarray(locations.site), np.asarray(locations.active)
    maps = reference.one_hot_maps(sites, active, *model.image_shape[:2])
    log_px = np.array([_log_px(model, x, np.float64(a), maps) for a in sprites])
    log_ratio = reference.log_normal(np.float64(z_app)) - reference.log_normal(
        np.float64(z_app), *parameters
    )
    log_ratio = (log_ratio * active).sum(-1)
    logits = variables["params"]["prior_n_logits"]
    kl_n = np.array([-reference.log_p_n(k, logits) for k in n])
    kl_loc = np.float64(locations.entropy).sum(1)
    kl_loc = -kl_loc - [reference.log_p_locations(k, model.num_sites) for k in n]
    log_w = np.log(np.exp(log_px + log_ratio - log_px.max(0)).mean(0)) + log_px.max(0)
    expected = (log_px.mean(0), -log_ratio.mean(0), kl_loc, kl_n)
    assert terms.kl_background is None
    for term, value in zip(terms[:4], expected, strict=True):
        np.testing.assert_allclose(term, value, rtol=1e-4, atol=1e-3)
    assert mean == pytest.approx((log_w - kl_loc - kl_n).mean(), rel=1e-4)
    assert (terms.elbo < log_w - kl_loc - kl_n)[n > 0].all()


def test_log_weights():
    """The weights are log p(x, z) − log q(z | x) of the same draws, as in NumPy.

    `test_enumeration` compares those without an exclusion radius with log p(x).
    """
    radius = 2
    model, variables, x = _model(exclusion_radius=radius, count_threshold=6.0)
    keys = tiny_models.image_keys(B)
    log_w = _log_weights(model, variables, x, keys, 2)
    H, W, _ = model.image_shape
    logits = variables["params"]["prior_n_logits"]
    for k in range(2):
        sample_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, k)
        h_loc, n, locations, parameters, z_app, sprites = _given_networks(
            model, variables, x, sample_keys
        )
        sites, active = np.asarray(locations.site), np.asarray(locations.active)
        maps = reference.one_hot_maps(sites, active, H, W)
        log_q_loc = reference.location_terms(h_loc, sites, n, radius)[0].sum(1)
        log_ratio_app = reference.log_normal(z_app) - reference.log_normal(
            z_app, *parameters
        )
        log_p_n_loc = [
            reference.log_p_n(i, logits) + reference.log_p_locations(i, H * W)
            for i in n
        ]
        expected = (
            _log_px(model, x, sprites, maps)
            + (log_ratio_app * active).sum(1)
            + np.array(log_p_n_loc)
            - log_q_loc
        )
        np.testing.assert_allclose(log_w[k], expected, rtol=1e-4, atol=1e-3)


def test_a_thousand_samples_take_the_memory_of_ten():
    """K changes the size of the result alone, and the first samples stay the same."""
    model, variables, x = _model((4, 5, 1), max_objects=2)
    inputs = (variables, x, tiny_models.image_keys(B))
    few, many = (
        _log_weights.lower(model, *inputs, num_samples).compile()
        for num_samples in (10, 1000)
    )
    needed, needed_by_many = (
        program.memory_analysis().temp_size_in_bytes for program in (few, many)
    )
    assert needed > 0
    # The result is gathered before it is handed over, and samples are counted.
    assert needed_by_many - needed <= 1000 * (B + 1) * 4 + 1000
    log_w = many(*inputs)
    assert log_w.shape == (1000, B)
    np.testing.assert_allclose(log_w[:10], few(*inputs), rtol=1e-6)
    assert len(np.unique(log_w[:, 0])) > 500


def test_slots_beyond_n_change_nothing():
    """Slots beyond n change neither canvas, gradients nor the decoder's statistics."""
    model, variables, x = _model(sprite_net="conv", norm="batch", max_objects=4)
    active = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0]], bool)
    rng = np.random.default_rng(0)
    z_app = rng.normal(size=(B, 4, 2)).astype(np.float32)
    noise = 100 * rng.normal(size=z_app.shape).astype(np.float32)
    site = np.where(active, rng.integers(0, 80, active.shape), 0).astype(np.int32)
    zeros = np.zeros(active.shape, np.float32)
    locations = objectives.Locations(site, active, zeros, zeros, None)

    def run(params, z_app):
        def forward(module):
            sprites = module.sprites(z_app, active, train=True)
            canvas = module.canvas(sprites, locations)
            return module.log_likelihood(x, canvas).sum(), canvas

        (log_px, canvas), updates = model.apply(
            {**variables, "params": params},
            method=lambda module: forward(module),
            mutable=["batch_stats"],
        )
        return log_px, (canvas, updates)

    grad = jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))
    params = variables["params"]
    plain = grad(params, z_app)
    changed = grad(params, np.where(active[..., None], z_app, noise))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        plain,
        changed,
    )
    gradient = np.asarray(plain[1][1])
    assert not gradient[~active].any()
    assert np.abs(gradient[active]).max() > 0


def test_the_papers_size():
    """The paper's model has 500k ± 10% parameters, about a third in each network."""
    model = build.build_model(dsprites.get_config("paper"))
    image = jnp.zeros((1, *model.image_shape))
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(params[name]))
        for name in ("location_net", "appearance_net", "f_sprite")
    }
    total = sum(sizes.values())
    assert 450_000 <= total <= 550_000
    assert all(0.28 <= size / total <= 0.40 for size in sizes.values()), sizes
