"""Plain NumPy loops in float64 compute the equations, and are easy to check by eye.

Arrays have the library's shapes: see `lavae_jax.types`.
"""

import itertools
import math

import numpy as np


def convolve(sprites, maps):
    """Puts sprites' centres on every site, weighted by maps (Eq. 4): [B, H, W, C]."""
    B, M, S = sprites.shape[:3]
    H, W = maps.shape[2:]
    canvas = np.zeros((B, H, W, sprites.shape[-1]))
    for b, i, row, column in np.ndindex(B, M, H, W):
        for dy, dx in np.ndindex(S, S):
            y, x = row + dy - S // 2, column + dx - S // 2
            if 0 <= y < H and 0 <= x < W:
                canvas[b, y, x] += maps[b, i, row, column] * sprites[b, i, dy, dx]
    return canvas


def one_hot_maps(sites, active, height, width):
    """Returns hard locations as maps, [B, M, H, W]."""
    maps = np.zeros((*sites.shape, height, width))
    for b, i in np.argwhere(active):
        maps[b, i, sites[b, i] // width, sites[b, i] % width] = 1
    return maps


def window(image, site, side):
    """Returns the square part of [H, W, C] around a site, with 0 beyond the border."""
    H, W, C = image.shape
    out = np.zeros((side, side, C))
    for dy, dx in np.ndindex(side, side):
        y, x = site // W + dy - side // 2, site % W + dx - side // 2
        if 0 <= y < H and 0 <= x < W:
            out[dy, dx] = image[y, x]
    return out


def around(a, row, column, side):
    """Returns the part of a map [H, W] that lies in the square around a point."""
    r = side // 2
    return a[max(row - r, 0) : row + r + 1, max(column - r, 0) : column + r + 1]


def peaks(h, radius=0):
    """Returns the sites of h [H, W] that are largest of their square, first of equals.

    The square's side is 3, or 2 · radius + 1 if that is larger.
    """
    r = max(1, radius)
    largest = [
        (row, column)
        for row, column in np.ndindex(*h.shape)
        if h[row, column] == around(h, row, column, 2 * r + 1).max()
    ]

    def is_near(a, b):
        return abs(a[0] - b[0]) <= r and abs(a[1] - b[1]) <= r

    return [
        site[0] * h.shape[1] + site[1]
        for i, site in enumerate(largest)
        if not any(is_near(site, earlier) for earlier in largest[:i])
    ]


def f_count(h_loc, threshold, max_objects, radius=0):
    """Returns f_count of Appendix B, [B], on [B, H, W]."""
    n = [sum(h.ravel()[site] > threshold for site in peaks(h, radius)) for h in h_loc]
    return np.minimum(n, max_objects)


def sigmoid(a):
    """Returns 1 / (1 + exp(−a))."""
    return 1 / (1 + np.exp(-np.asarray(a, np.float64)))


def presences(h, threshold, temperature, radius=0):
    """Returns {chosen sites: probability} of every choice of peaks of h [H, W]."""
    sites = peaks(h, radius)
    p = sigmoid((h.ravel()[sites].astype(np.float64) - threshold) / temperature)
    return {
        tuple(
            site for site, is_object in zip(sites, chosen, strict=True) if is_object
        ): (np.prod(np.where(chosen, p, 1 - p)))
        for chosen in itertools.product([False, True], repeat=len(sites))
    }


def disc(site, height, width, radius):
    """Returns the sites within `radius` pixels of a site."""
    return {
        row * width + column
        for row, column in np.ndindex(height, width)
        if math.hypot(row - site // width, column - site % width) <= radius
    }


def site_probabilities(h, taken):
    """Returns b^i of Eq. 11 over the sites, [D], given those that can't be drawn."""
    weights = np.exp(h.ravel() - h.max())
    weights[list(taken)] = 0
    return weights / weights.sum()


def location_terms(h_loc, sites, n, radius=0):
    """Returns log-probability and entropy of every draw, each [B, M], 0 beyond n."""
    log_q, entropy = np.zeros(sites.shape), np.zeros(sites.shape)
    for b, h in enumerate(h_loc):
        taken = set()
        for i in range(n[b]):
            p = site_probabilities(h, taken)
            log_q[b, i] = np.log(p[sites[b, i]])
            entropy[b, i] = -sum(q * np.log(q) for q in p if q > 0)
            taken |= disc(sites[b, i], *h.shape, radius)
    return log_q, entropy


def ordered_draws(h, n, radius=0):
    """Returns all ordered draws of n sites of h [H, W], with their probabilities."""
    draws = {}
    for sites in itertools.permutations(range(h.size), n):
        probability, taken = 1.0, set()
        for site in sites:
            probability *= site_probabilities(h, taken)[site]
            taken |= disc(site, *h.shape, radius)
            if probability == 0:
                break
        draws[sites] = probability
    return draws


def log_p_locations(n, num_sites):
    """Returns the log-probability of n ordered sites (Eq. 3)."""
    return -sum(math.log(num_sites - i) for i in range(n))


def log_p_n(n, logits):
    """Returns log p(n) of Eq. 2."""
    logits = np.asarray(logits, np.float64)
    return logits[n] - np.log(np.exp(logits).sum())


def pixel_mean(canvas, epsilon):
    """Returns the sum of sprites, cut at 1, as a mean in [ε, 1 − ε]."""
    return epsilon + (1 - 2 * epsilon) * np.minimum(canvas, 1)


def log_likelihood(x, canvas, epsilon):
    """Returns the log-likelihood of Eq. 12, per pixel and channel."""
    p = pixel_mean(np.asarray(canvas, np.float64), epsilon)
    return np.where(x > 0.5, np.log(p), np.log(1 - p))


def log_normal(z, mu=0.0, logvar=0.0):
    """Returns the log-density of a diagonal Gaussian, summed over the last axis."""
    return -0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar + np.log(2 * np.pi)).sum(
        axis=-1
    )


def gaussian_kl(mu, logvar):
    """Returns KL(N(μ, σ²) ‖ N(0, I)), summed over the last axis."""
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=-1)


def float64(tree):
    """Converts a NamedTuple of arrays to NumPy, and its floats to float64."""

    def convert(a):
        a = np.asarray(a)
        return a.astype(np.float64) if a.dtype.kind == "f" else a

    return type(tree)(*[None if a is None else convert(a) for a in tree])
