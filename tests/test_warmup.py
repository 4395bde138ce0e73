"""Appendix B's auxiliary VAE, its KL map and the map's peaks are as defined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from lavae_jax import background as backgrounds
from lavae_jax import warmup
from tests import reference, tiny_models

_bumps = jax.jit(warmup.bumps, static_argnums=4)
_kl_peaks = jax.jit(warmup.kl_peaks, static_argnums=(1, 2))


def _random_map(*shape, seed=0):
    return np.random.default_rng(seed).exponential(size=shape).astype(np.float32)


def test_smooth():
    """`smooth` is a Gaussian blur with zeros beyond the border."""
    a = _random_map(2, 15, 30)
    expected = [
        scipy.ndimage.gaussian_filter(b.astype(np.float64), 1.5, mode="constant")
        for b in a
    ]
    np.testing.assert_allclose(warmup.smooth(a, 1.5), np.stack(expected), atol=1e-5)


def test_centroids():
    """A centroid is the window's centre of mass, or without mass the map's middle."""
    a = _random_map(2, 9, 12)
    a[1, :4, :5] = 0
    sites = np.array([[0, 4 * 12 + 7, 9 * 12 - 1], [0, 5 * 12 + 3, 11]], np.int32)
    actual = warmup.centroids(a, sites, 5)
    for b, i in np.ndindex(2, 3):
        row, column = divmod(int(sites[b, i]), 12)
        weights = [
            (a[b, y, x], y, x)
            for y, x in np.ndindex(9, 12)
            if abs(y - row) <= 2 and abs(x - column) <= 2
        ]
        mass, y, x = np.float64(weights).T
        expected = [mass @ y, mass @ x] / mass.sum() if mass.any() else [4, 6]
        np.testing.assert_allclose(actual[b, i], expected, atol=1e-4)
    np.testing.assert_array_equal(actual[1, 0], [4, 6])


def test_bumps():
    """The map is the highest of the Gaussians around the valid centres."""
    centres = np.array([[[2.5, 3], [6, 9], [1, 1]], [[0, 0], [3, 3], [5, 5]]])
    valid = np.array([[1, 1, 0], [0, 0, 0]], bool)
    expected = np.zeros((2, 8, 11))
    for b, y, x in np.ndindex(2, 8, 11):
        for (row, column), good in zip(centres[b], valid[b], strict=True):
            distance2 = (y - row) ** 2 + (x - column) ** 2
            bump = good * 10 * np.exp(-distance2 / (2 * 1.5**2))
            expected[b, y, x] = max(expected[b, y, x], bump)
    actual = _bumps(centres.astype(np.float32), valid, 10.0, 1.5, (8, 11))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_peaks_are_found():
    """Peaks are found to a pixel, highest first; a low or flat map has none."""
    centres = np.array([[10.3, 12.6], [30, 33.5], [8.5, 38]], np.float32)
    heights = (12.0, 20.0, 8.0)
    maps = np.zeros((3, 40, 48), np.float32)
    for centre, height in zip(centres, heights, strict=True):
        one = _bumps(centre[None, None], np.ones((1, 1), bool), height, 4.0, (40, 48))
        maps[0] = np.maximum(maps[0], one[0])
    maps[1] = 0.9
    positions, valid = _kl_peaks(maps, 4)
    np.testing.assert_array_equal(valid, [[1, 1, 1, 0], [0] * 4, [0] * 4])
    distance = np.linalg.norm(positions[0, :3] - centres[[1, 0, 2]], axis=1)
    assert distance.max() < 1


@pytest.fixture(scope="module", name="small")
def _small():
    """Makes a VAE with variables that matter, and images that don't fill 2×4 cells."""
    vae = warmup.AuxiliaryVAE(2, latent_channels=3, channels=4)
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(3, 10, 21, 2)) < 0.3).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = jax.eval_shape(vae.init, keys[0], x, keys)
    variables = jax.tree.map(
        lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype), shapes
    )
    return vae, variables, x, keys


@pytest.mark.standard_promotion
def test_elbo_terms(small):
    """The KL and log p(x | z) of the drawn z equal NumPy's."""
    vae, variables, x, keys = small
    log_px, kl = jax.jit(vae.apply)(variables, x, keys)
    mu, logvar = (np.float64(a) for a in vae.apply(variables, x, method="encode"))
    assert mu.shape == (3, 2, 4, 3)
    np.testing.assert_allclose(
        kl, reference.gaussian_kl(mu, logvar).sum((1, 2)), rtol=1e-4
    )
    noise = np.stack([jax.random.normal(key, mu.shape[1:]) for key in keys])
    z = (mu + np.exp(logvar / 2) * noise).astype(np.float32)
    means = vae.apply(variables, z, 10, 21, method="decode")
    assert means.shape == x.shape
    expected = reference.log_likelihood(x, means, 1e-6).sum((1, 2, 3))
    np.testing.assert_allclose(log_px, expected, rtol=1e-3)


def test_a_grid_map_peaks_in_the_costliest_cell(small):
    """The map peaks in the cell of the highest KL; 6-pixel cells are centred."""
    vae, variables, x, _ = small
    mu, logvar = (np.float64(a) for a in vae.apply(variables, x, method="encode"))
    cells = reference.gaussian_kl(mu, logvar)
    assert (cells >= 0).all()
    grid_map = np.asarray(vae.apply(variables, x, method="grid_map"))
    assert grid_map.shape == (3, 10, 21)
    for cell, pixels in zip(cells, grid_map, strict=True):
        row, column = np.unravel_index(pixels.argmax(), pixels.shape)
        # The padding is one pixel above, left and below, and two pixels right.
        found = ((row + 1) // 6, (column + 1) // 6)
        assert found == np.unravel_index(cell.argmax(), cell.shape)


def test_a_cell_looks_as_far_up_as_down(small):
    """The pixels that change a cell's μ lie evenly around it, so peaks don't move."""
    vae, variables, _, _ = small

    def mu(x):
        return vae.apply(variables, x, method="encode")[0][0, 7, 8].sum()  # of 15 × 16

    x = np.random.default_rng(0).uniform(size=(1, 90, 96, 2)).astype(np.float32)
    _, rows, columns, _ = np.nonzero(jax.jit(jax.grad(mu))(x))
    assert rows.min() + rows.max() == 42 + 47 and rows.min() > 0
    assert columns.min() + columns.max() == 48 + 53 and columns.max() < 95


def test_the_kl_map_is_the_mean_over_grids_and_turns(small):
    """The map is the mean over two turns and nine grids, moved by 0, 2 or 4 pixels."""
    vae, variables, x, _ = small
    total = np.zeros((3, 10, 21))
    for turn, row, column in np.ndindex(2, 3, 3):
        moved = np.zeros((3, 16, 27, 2), np.float32)
        rows = slice(2 * row, 2 * row + 10)
        columns = slice(2 * column, 2 * column + 21)
        moved[:, rows, columns] = np.rot90(x, 2 * turn, axes=(1, 2))
        grid_map = vae.apply(variables, moved, method="grid_map")
        part = np.asarray(grid_map)[:, rows, columns]
        total += np.rot90(part, 2 * turn, axes=(1, 2))
    kl_map = vae.apply(variables, x, method="kl_map")
    np.testing.assert_allclose(kl_map, total / 18, rtol=1e-4)


def test_peaks_of_objects_of_another_size():
    """Small objects side by side stay two, and a large one with two tops stays one."""
    near = np.array([[[20, 20], [20, 26]]], np.float32)
    small = _bumps(near, np.ones((1, 2), bool), 40.0, 1.2, (40, 48))
    positions, valid = _kl_peaks(small, 4, 5)
    assert valid.sum() == 2
    order = positions[0, :2, 1].argsort()
    np.testing.assert_allclose(positions[0, :2][order], near[0], atol=0.5)
    assert _kl_peaks(small, 4)[1].sum() == 1
    tops = np.array([[[20, 14], [20, 28]]], np.float32)
    large = _bumps(tops, np.ones((1, 2), bool), 10.0, 4.0, (40, 48))
    positions, valid = _kl_peaks(large, 4, 39)
    assert valid.sum() == 1 and _kl_peaks(large, 4)[1].sum() == 2
    np.testing.assert_allclose(positions[0, 0], [20, 21], atol=0.5)


@pytest.mark.standard_promotion
def test_a_background_behind_the_auxiliary_vae(small):
    """The encoder sees x less it, and the decoder paints before it with an opacity.

    σ is 0.05. The map is less its median.
    """
    _, _, x, keys = small
    vae = warmup.AuxiliaryVAE(2, 3, 4, pixels="gaussian", has_background=True)
    shapes = jax.eval_shape(vae.init, keys[0], x, keys)
    variables = tiny_models.random_leaves(shapes, scale=0.3)
    rng = np.random.default_rng(1)
    x, behind = (rng.uniform(size=x.shape).astype(np.float32) for _ in range(2))
    log_px, kl = jax.jit(vae.apply)(variables, x, keys, behind)
    mu, logvar = vae.apply(variables, x - behind, method="encode")
    mu, logvar = np.float64(mu), np.float64(logvar)
    expected = reference.gaussian_kl(mu, logvar).sum((1, 2))
    np.testing.assert_allclose(kl, expected, rtol=1e-4)
    noise = np.stack([jax.random.normal(key, mu.shape[1:]) for key in keys])
    z = (mu + np.exp(logvar / 2) * noise).astype(np.float32)
    painted = np.float64(vae.apply(variables, z, 10, 21, method="decode"))
    assert painted.shape == (3, 10, 21, 3)
    opacity = painted[..., 2:]
    means = opacity * painted[..., :2] + (1 - opacity) * behind
    expected = scipy.stats.norm(means, 0.05).logpdf(x).sum((1, 2, 3))
    np.testing.assert_allclose(log_px, expected, rtol=1e-3)
    kl_map = vae.apply(variables, x, behind, method="kl_map")
    same = vae.clone(has_background=False)
    plain = same.apply(variables, x - behind, method="kl_map")
    plain -= np.median(plain, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(kl_map, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.standard_promotion
@pytest.mark.parametrize("kind", ["constant", "smooth"])
def test_the_loss_of_a_background(kind):
    """It is |x − b| / 0.1, summed, and the KL of z_bg, by NumPy; a median is best."""
    model = tiny_models.tiny_model((8, 9, 1), background=kind, pixels="gaussian")
    variables = tiny_models.random_variables(model)
    x, keys = tiny_models.grey_images(model, 3), tiny_models.image_keys(3)

    @jax.jit
    def loss(variables, x):
        bound = model.bind(variables)
        q = bound.background_posterior(x)
        return *warmup.background_loss(bound, x, keys), q

    found, behind, q = jax.device_get(loss(variables, x))
    z = None
    expected = np.abs(x - behind).sum((1, 2, 3), dtype=np.float64) / 0.1
    if kind == "smooth":
        expected += reference.gaussian_kl(*reference.float64(q))
        noise = jax.vmap(jax.random.fold_in, (0, None))(keys, backgrounds._KEY)
        noise = np.stack([jax.random.normal(key, (1,)) for key in noise])
        z = q.mu + np.exp(q.logvar / 2) * noise
    painted = model.bind(variables).background(z)
    np.testing.assert_allclose(behind, painted, rtol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    if kind == "constant":
        bright = np.where(np.arange(72).reshape(1, 8, 9, 1) < 30, 0.9, 0.2)
        losses = []
        for level in (0.2, 0.4915, 0.9):  # the middle one is the mean
            logit = np.full((1, 1, 1, 1), np.log(level / (1 - level)), np.float32)
            params = {**variables["params"], "background_net": {"logits": logit}}
            losses.append(loss({"params": params}, np.float32(bright))[0].item())
        assert losses[0] < losses[1] < losses[2]
