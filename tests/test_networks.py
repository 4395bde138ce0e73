"""Appendix B's networks and the lighter ones equal their plain forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lavae_jax import blocks, networks
from lavae_jax.types import Locations, hard_locations

A, H, W, C = 6, 4, 6, 3
VALID = np.array([1, 0, 1, 1, 0, 1], bool)


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


STATS = {
    "mean": np.array([1, 2, 3], np.float32),
    "var": np.array([4, 5, 6], np.float32),
}
AFFINE = {"scale": np.array([1, -2, 3], np.float32), "bias": _normal(C, seed=9)}


def _batch_norm(x, valid, axis_name=None):
    return blocks.BatchNorm(axis_name=axis_name).apply(
        {"params": AFFINE, "batch_stats": STATS},
        x,
        True,
        valid,
        mutable=["batch_stats"],
    )


def _numpy_batch_norm(x, rows):
    """Returns the output and the running statistics, of the rows that count."""
    x = x.astype(np.float64)
    counted = x[rows].reshape(-1, x.shape[-1])
    mean, var = counted.mean(0), counted.var(0)
    out = (x - mean) / np.sqrt(var + 1e-5) * AFFINE["scale"] + AFFINE["bias"]
    stats = {
        "mean": 0.9 * STATS["mean"] + 0.1 * mean,
        "var": 0.9 * STATS["var"] + 0.1 * var,
    }
    return out, stats


def _assert_close(actual, expected, atol=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=atol), actual, expected
    )


@pytest.mark.parametrize(
    ("shape", "valid"), [((A, C), None), ((A, C), VALID), ((A, H, W, C), VALID)]
)
def test_batch_norm(shape, valid):
    """Output and running statistics are those of the valid rows."""
    x = 2 + 3 * _normal(*shape)
    rows = np.ones(A, bool) if valid is None else valid
    expected, stats = _numpy_batch_norm(x, rows)
    out, updates = jax.jit(_batch_norm)(x, valid)
    np.testing.assert_allclose(out, expected, atol=1e-4)
    _assert_close(updates["batch_stats"], stats)


def test_rows_that_are_not_valid_change_nothing():
    """Invalid rows change no valid row's output or gradient, and no statistics."""
    x = _normal(A, H, W, C)
    weights = _normal(A, H, W, C, seed=1) * VALID[:, None, None, None]

    def loss(x):
        out, updates = _batch_norm(x, VALID)
        return (out * weights).sum(), (out[VALID], updates)

    grad = jax.jit(jax.grad(loss, has_aux=True))
    gradient, rest = grad(x)
    changed = np.where(VALID[:, None, None, None], x, 100 * x + 7)
    changed_gradient, changed_rest = grad(changed)
    _assert_close((gradient[VALID], rest), (changed_gradient[VALID], changed_rest))
    assert not gradient[~VALID].any()


def test_no_valid_row_leaves_the_statistics():
    """Without a valid row the statistics stay, and the gradients are finite."""

    def loss(x):
        out, updates = _batch_norm(x, np.zeros(A, bool))
        return out.sum(), updates

    gradient, updates = jax.jit(jax.grad(loss, has_aux=True))(_normal(A, C))
    _assert_close(updates["batch_stats"], STATS, atol=0)
    assert np.isfinite(gradient).all()


def test_batch_norm_over_devices():
    """Devices with uneven numbers of valid rows give what one device gives for all."""
    x = _normal(4, A, C)
    valid = np.stack([VALID, np.zeros(A, bool), ~VALID, np.arange(A) < 1])
    weights = _normal(4, A, C, seed=1) * valid[..., None]

    def loss(x, valid, weights, axis_name=None):
        out, updates = _batch_norm(x, valid, axis_name)
        return (out * weights).sum(), (out, updates)

    def on_device(x, valid, weights):
        return jax.grad(loss, has_aux=True)(x, valid, weights, "batch")

    gradient, (out, updates) = jax.pmap(on_device, axis_name="batch")(x, valid, weights)
    flat = [a.reshape(-1, *a.shape[2:]) for a in (x, valid, weights)]
    whole = jax.jit(jax.grad(loss, has_aux=True))
    expected_gradient, (expected, stats) = whole(*flat)
    np.testing.assert_allclose(out.reshape(-1, C), expected, atol=1e-5)
    np.testing.assert_allclose(gradient.reshape(-1, C), expected_gradient, atol=1e-5)
    for i in range(4):
        _assert_close(jax.tree.map(lambda a, i=i: a[i], updates), stats)


def _locations(relaxed):
    site = np.array([[0, H * W - 1, 9], [7, 7, 2 * W]], np.int32)
    zeros = np.zeros(site.shape, np.float32)
    z_loc = None
    if relaxed:
        z_loc = np.random.default_rng(0).dirichlet(np.ones(H * W), site.shape)
        z_loc = z_loc.astype(np.float32)
    return Locations(site, np.ones(site.shape, bool), zeros, zeros, z_loc)


def test_stems_take_images_of_any_size():
    """A stem that does not divide an image's sides sees black pixels beyond them."""
    trunk = blocks.Trunk(4, "none", 4, num_blocks=1)
    net, x = networks.LocationNet(trunk, hidden=4), _normal(2, 5, 7, C)
    padded = np.pad(x, [(0, 0), (0, 3), (0, 1), (0, 0)])
    variables = net.init(jax.random.key(0), padded, True)
    expected = net.apply(variables, padded, True)[:, :5, :7]
    np.testing.assert_array_equal(net.apply(variables, x, True), expected)


@pytest.mark.parametrize(("relaxed", "stride"), [(False, 2), (True, 1)])
def test_appearance_is_the_map_read_at_the_locations(relaxed, stride):
    """Reading at sites equals Eq. 9 on h_app in values, gradients and statistics."""
    net = networks.AppearanceNet(blocks.Trunk(8, "batch", stride, num_blocks=1), 2)
    x, locations = _normal(2, H, W, C), _locations(relaxed)
    weights = _normal(2, 3, 4, seed=1)

    def feature_map(module, x):
        return module.head(module.features(x, True))  # [B, D, 2L]

    init = jax.jit(functools.partial(net.init, method=feature_map))
    variables = init(jax.random.key(0), x)
    params = jax.tree.map(lambda a: np.asarray(a) + 0.3, variables["params"])

    def fast(module, x):
        return module.read(module.features(x, True), locations, 6)

    def plain(module, x):
        h_app = feature_map(module, x)
        if relaxed:
            return jnp.einsum("bmd,bdl->bml", locations.z_loc, h_app)
        return jnp.stack([h_app[b, locations.site[b]] for b in range(2)])

    def run(method):
        def loss(params, x):
            out, updates = net.apply(
                {**variables, "params": params},
                x,
                method=method,
                mutable=["batch_stats"],
            )
            return (out * weights).sum(), (out, updates)

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, x)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        run(fast),
        run(plain),
    )


def _gelu(x):
    """Returns GELU in its usual approximation by tanh."""
    inner = np.float64(x) + 0.044715 * np.float64(x) ** 3
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * inner)).astype(np.float32)


def test_glimpses_are_a_convolution():
    """At all sites, the network on windows equals a G×G convolution and 1×1 ones."""
    G, L, width = 5, 2, 4
    net = networks.GlimpseAppearanceNet(G, width, L)
    x = _normal(2, H, W, C)
    site = jnp.tile(jnp.arange(H * W, dtype=jnp.int32), (2, 1))
    args = (x, hard_locations(site, jnp.ones_like(site, bool)), site.size)
    variables = net.init(jax.random.key(0), *args, method="read")
    params = jax.tree.map(lambda a: a + 0.1, variables["params"])
    out = net.apply({"params": params}, *args, method="read").reshape(-1, 2 * L)

    first, *blocks, last = (params["network"][f"Dense_{i}"] for i in range(4))
    kernel = first["kernel"].reshape(G, G, C, width)  # correlates, as lax.conv does
    h = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(-1, width)
    h = _gelu(h + first["bias"][None, :])
    for layer in blocks:
        h = h + _gelu(h @ layer["kernel"] + layer["bias"][None, :])
    expected = h @ last["kernel"] + last["bias"][None, :]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", [networks.MLPSpriteDecoder, networks.SpriteDecoder])
def test_sprites_start_dark(net):
    """Fresh decoders without an opacity paint sprites near σ(−3)."""
    sprites = _fresh_sprites(net(9, 3))
    assert sprites.shape == (64, 9, 9, 3)
    assert 0.02 < np.median(sprites) < 0.1


@pytest.mark.parametrize("net", [networks.MLPSpriteDecoder, networks.SpriteDecoder])
def test_sprites_start_grey_and_transparent(net):
    """Fresh decoders with an opacity paint colours near ½, and opacities near σ(−3)."""
    sprites = _fresh_sprites(net(9, 3, has_opacity=True))
    colours, opacity = np.median(sprites[..., :2]), np.median(sprites[..., 2])
    assert abs(colours - 0.5) < 0.1 and 0.02 < opacity < 0.1


def _fresh_sprites(net):
    """Decodes random appearances by a network that has not been trained."""
    z_app, valid = np.random.default_rng(0).normal(size=(64, 5)), np.ones(64, bool)
    arguments = z_app.astype(np.float32), valid, False
    variables = jax.jit(net.init, static_argnums=3)(jax.random.key(0), *arguments)
    return np.asarray(jax.jit(net.apply, static_argnums=3)(variables, *arguments))
