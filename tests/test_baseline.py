"""The baseline's networks and bound agree with NumPy, and with p(x) by quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import lavae_jax
from experiments.configs import baseline as baseline_configs
from lavae_jax import baseline
from tests import reference, tiny_models

# distrax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

B = 3
PAPER = dict(norm="batch", stem_stride=2, resample_size=4, upsampling="bilinear")
LAPTOP = dict(norm="none", stem_stride=4, resample_size=2, upsampling="shuffle")


def _model(image_shape=(16, 8, 2), latent_channels=2, **fields):
    return baseline.BaselineVAE(
        image_shape,
        latent_channels=latent_channels,
        channels=3,
        epsilon=1e-2,
        **(LAPTOP | fields),
    )


@functools.cache
def _given(model):
    """Makes variables, images and one key per image."""
    variables = tiny_models.random_variables(model, scale=0.3)
    return variables, tiny_models.binary_images(model, B), tiny_models.image_keys(B)


@functools.partial(jax.jit, static_argnums=0)
def _elbo(model, variables, x, keys):
    return baseline.elbo(model.bind(variables), x, keys)


# The networks in NumPy take layers in the order in which Flax has named them.


def _correlate(x, kernel, stride):
    """Convolves x [B, H, W, C] without padding."""
    rows, columns = (
        (size - side) // stride + 1
        for size, side in zip(x.shape[1:3], kernel.shape[:2], strict=True)
    )
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i, j in np.ndindex(*kernel.shape[:2]):
        there = x[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
        out += there[:, :rows, :columns] @ kernel[i, j]
    return out


def _conv(x, layer, stride=1):
    """Convolves with zeros around, so that the output has a stride-th of the size."""
    side = layer["kernel"].shape[0]
    around = [(0, 0)] * 4
    for axis in (1, 2):
        missing = max(side - stride, 0)
        around[axis] = (missing // 2, missing - missing // 2)
    return _correlate(np.pad(x, around), layer["kernel"], stride) + layer["bias"]


def _conv_transpose(x, layer):
    """Adds the mirrored kernel for every site to a map of twice the size."""
    kernel = layer["kernel"][::-1, ::-1]
    side, (num, rows, columns, _) = kernel.shape[0], x.shape
    out = np.zeros((num, 2 * rows + side, 2 * columns + side, kernel.shape[-1]))
    for row, column in np.ndindex(rows, columns):
        added = np.einsum("bc,ijcd->bijd", x[:, row, column], kernel)
        out[:, 2 * row : 2 * row + side, 2 * column : 2 * column + side] += added
    margin = (side - 2) // 2
    out = out[:, margin : margin + 2 * rows, margin : margin + 2 * columns]
    return out + layer["bias"]


def _activate(x, params, stats):
    """Applies leaky ReLU, then batch normalisation where there is one."""
    x = np.where(x > 0, x, 0.01 * x)
    if "BatchNorm_0" not in params:
        return x
    norm, moments = params["BatchNorm_0"], stats["BatchNorm_0"]
    x = (x - moments["mean"]) / np.sqrt(moments["var"] + 1e-5)
    return x * norm["scale"] + norm["bias"]


def _layer(x, params, stats):
    return _activate(_conv(x, params["Conv_0"]), params, stats)


def _residual(x, params, stats):
    y = x
    for name in ("ConvBlock_0", "ConvBlock_1"):
        y = _layer(y, params[name], stats.get(name, {}))
    return x + y


def _bilinear(x, factor):
    """Interpolates between pixels' centres, and is level beyond the outermost."""
    for axis in (1, 2):
        size = x.shape[axis]
        at = (np.arange(factor * size) + 0.5) / factor - 0.5
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        below, above = (
            np.take(x, np.clip(i, 0, size - 1), axis) for i in (low, low + 1)
        )
        x = (1 - share) * below + share * above
    return x


def _parts(variables, name):
    tree = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)
    return tree["params"][name], tree.get("batch_stats", {}).get(name, {})


def _encode(model, variables, x):
    """Returns μ and log σ², each [B, d_VAE]."""
    params, stats = _parts(variables, "encoder")
    x = _activate(_conv(x, params["Conv_0"], model.stem_stride), params, stats)
    num_down = {2: 2, 4: 1, 8: 0}[model.stem_stride]
    for i in range(4):
        name = f"ResidualBlock_{i}"
        x = _residual(x, params[name], stats.get(name, {}))
        if i < num_down:
            x = _conv(x, params[f"Conv_{i + 1}"], 2)
    head = _conv(x, params[f"Conv_{num_down + 1}"])
    mu, logvar = np.split(head, 2, axis=-1)
    return mu.reshape(len(x), -1), 8 * np.tanh(logvar / 8).reshape(len(x), -1)


def _decode(model, variables, z):
    """Returns pixel means before ε, [B, H, W, C]."""
    params, stats = _parts(variables, "decoder")
    x = _layer(
        z.reshape(len(z), *model.latent_shape),
        params["ConvBlock_0"],
        stats.get("ConvBlock_0", {}),
    )
    num_up = {2: 2, 4: 1, 8: 0}[model.stem_stride]
    for i in range(4):
        up = i - (4 - num_up)
        if up >= 0:
            x = _conv_transpose(x, params[f"ConvTranspose_{up}"])
        name = f"ResidualBlock_{i}"
        x = _residual(x, params[name], stats.get(name, {}))
    if model.upsampling == "bilinear":
        x = _bilinear(x, model.stem_stride)
        x = _layer(x, params["ConvBlock_1"], stats.get("ConvBlock_1", {}))
    x = _conv(x, params["Conv_0"])
    if model.upsampling == "shuffle":
        x = _shuffle(x, model.stem_stride)
    return 1 / (1 + np.exp(-x))


def _shuffle(x, factor):
    num, rows, columns, depth = x.shape
    out = np.zeros((num, rows * factor, columns * factor, depth // factor**2))
    for i, j in np.ndindex(factor, factor):
        first = (i * factor + j) * out.shape[3]
        out[:, i::factor, j::factor] = x[..., first : first + out.shape[3]]
    return out


@pytest.mark.parametrize("fields", [PAPER, LAPTOP], ids=["paper", "laptop"])
def test_terms_and_weights(fields):
    """The ELBO's terms, log w and reconstructions are those of the NumPy networks."""
    model = _model(**fields)
    variables, x, keys = _given(model)
    mu, logvar = _encode(model, variables, x)
    noise = jax.vmap(lambda key: jax.random.normal(key, mu.shape[1:]))

    def draw(keys):
        z = mu + np.exp(0.5 * logvar) * np.asarray(noise(keys), np.float64)
        canvas = _decode(model, variables, z)
        log_px = reference.log_likelihood(x, canvas, model.epsilon).sum((1, 2, 3))
        return z, log_px

    terms = _elbo(model, variables, x, keys)
    np.testing.assert_allclose(terms.log_px, draw(keys)[1], rtol=1e-4)
    kl = reference.gaussian_kl(mu, logvar)
    np.testing.assert_allclose(terms.kl, kl, rtol=1e-4)
    np.testing.assert_allclose(terms.elbo, draw(keys)[1] - kl, rtol=1e-4)

    log_w = lavae_jax.log_weights(model, variables, x, keys, 2)
    for index, actual in enumerate(log_w):
        z, log_px = draw(jax.vmap(jax.random.fold_in, (0, None))(keys, index))
        expected = log_px + reference.log_normal(z)
        expected -= reference.log_normal(z, mu, logvar)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)
    assert not np.allclose(log_w[0], log_w[1], rtol=1e-3)

    means = lavae_jax.reconstruct(model, variables, x)
    expected = reference.pixel_mean(_decode(model, variables, mu), model.epsilon)
    np.testing.assert_allclose(means, expected, rtol=1e-3, atol=1e-5)


def test_the_bound_is_one():
    """The bound lies between ELBO and log p(x), which it reaches with many samples.

    With two latent variables p(x) is an integral that a grid gives.
    """
    model = _model((8, 8, 2), stem_stride=8)
    _, x, keys = _given(model)
    # With these, q is wide enough that the weights have a small variance.
    variables = tiny_models.random_variables(model, seed=1, scale=0.3)
    side = np.linspace(-7, 7, 71)
    z = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    canvas = _decode(model, variables, z)
    log_px = [
        reference.log_likelihood(image, canvas, model.epsilon).sum((1, 2, 3))
        for image in x
    ]
    log_p = logsumexp(np.stack(log_px) + reference.log_normal(z), axis=1)
    log_p += 2 * np.log(side[1] - side[0])

    num = 2000
    log_w = np.asarray(lavae_jax.log_weights(model, variables, x, keys, num))
    one, ten, all_of_them = (
        (logsumexp(log_w.reshape(-1, k, B), axis=1) - np.log(k)).mean(0)
        for k in (1, 10, num)
    )
    assert (one < ten - 0.1).all() and (ten < log_p + 0.02).all()
    np.testing.assert_allclose(all_of_them, log_p, atol=0.1)
    terms = _elbo(
        model, variables, np.tile(x, (500, 1, 1, 1)), tiny_models.image_keys(500 * B)
    )
    elbo = np.reshape(terms.elbo, (500, B))
    error = np.hypot(elbo.std(0) / 500**0.5, log_w.std(0) / num**0.5)
    assert (np.abs(elbo.mean(0) - one) < 4 * error).all()


def test_samples_are_those_of_the_prior():
    """Samples are decoded from standard normal draws, one key per image."""
    model = _model()
    variables, _, _ = _given(model)
    key = jax.random.key(3)
    z = jax.vmap(lambda k: jax.random.normal(k, (model.latent_dim,)))(
        jax.random.split(key, B)
    )
    expected = reference.pixel_mean(
        _decode(model, variables, np.asarray(z, np.float64)), model.epsilon
    )
    means = lavae_jax.generate(model, variables, key, B)
    np.testing.assert_allclose(means, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("data", ["dsprites", "mnist_1k"])
def test_size(data):
    """The model has about 1M parameters, half in the encoder, and 16×8×8 latents."""
    config = baseline_configs.get_config(data)
    model = baseline.BaselineVAE(config.model.image_shape)
    image = jnp.zeros((1, *model.image_shape))
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    encoder, both = (
        sum(leaf.size for leaf in jax.tree.leaves(tree))
        for tree in (params["encoder"], params)
    )
    assert both == pytest.approx(1_000_000, rel=0.1)
    assert encoder / both == pytest.approx(0.5, abs=0.05)
    assert (model.latent_shape, model.latent_dim) == ((8, 8, 16), 1024)
    assert model.epsilon == config.model.epsilon
