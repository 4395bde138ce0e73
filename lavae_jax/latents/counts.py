"""The number of objects n: Eq. 2, Eq. 7 and f_count of Appendix B.

These arguments are the same everywhere:

- h_loc: location logits after γ, [B, H, W].
- threshold: a peak above this height counts as an object; 4γ in the paper.
- temperature: T of `draw_n`, positive.
- max_objects: M.
- radius: pixels, `exclusion_radius` of the model; see `peaks`.
"""

import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import distributions
from lavae_jax.types import Array, Locations


def reduce_square(a: Array, side: int, operation, init: float) -> Array:
    """Reduces the square around every point, one direction after the other.

    Args:
        a: [B, H, W].
        side: side of the square, odd.
        operation: `lax.add`, `lax.max` and the like.
        init: the operation's neutral element.

    Returns:
        [B, H, W].
    """
    for window in ((1, side, 1), (1, 1, side)):
        a = lax.reduce_window(a, init, operation, window, (1, 1, 1), "SAME")
    return a


def local_maxima(h: Array, side: int = 3) -> Array:
    """Marks the points that are the largest of a square of odd side around them.

    From [B, H, W] to [B, H, W] bool.
    """
    return h == reduce_square(h, side, lax.max, -jnp.inf)


def _side(radius: int) -> int:
    """Returns the side of the square around a peak in which there is no other."""
    return max(3, 2 * radius + 1)


def peaks(h_loc: Array, radius: int = 0) -> Array:
    """Marks the local maxima of h_loc, the candidates for objects.

    A site is a peak when it is the largest of the square around it: 3×3, or the square
    of side 2 · radius + 1 if that is larger, so that no two peaks lie within the radius
    in which `draw_locations` puts one object at most. Of equal sites, the first counts.
    The result is [B, H, W] bool.

    >>> import jax.numpy as jnp
    >>> from lavae_jax.latents import counts
    >>> h_loc = jnp.array([[[3.0, 3.0, 1.0, 4.0]]])
    >>> counts.peaks(h_loc).tolist()
    [[[True, False, False, True]]]
    >>> counts.peaks(h_loc, radius=3).tolist()
    [[[False, False, False, True]]]
    """
    side = _side(radius)
    largest = local_maxima(h_loc, side)
    num_sites = h_loc.shape[1] * h_loc.shape[2]
    site = jnp.arange(num_sites, dtype=jnp.int32).reshape(1, *h_loc.shape[1:])
    site = jnp.where(largest, site, num_sites)
    first = reduce_square(site, side, lax.min, jnp.int32(num_sites))
    return largest & (site == first)


def f_count(h_loc: Array, threshold: float, max_objects: int, radius: int = 0) -> Array:
    """Counts the peaks of h_loc above the threshold, at most M: n̂ of Eq. 7.

    The result is [B] int32.
    """
    objects = peaks(h_loc, radius) & (h_loc > threshold)
    return jnp.minimum(objects.sum(axis=(1, 2)), max_objects).astype(jnp.int32)


def draw_n(
    h_loc: Array,
    threshold: float,
    max_objects: int,
    temperature: float,
    keys: Array,
    radius: int = 0,
) -> tuple[Array, Array]:
    """Draws n from the q(n | x) of training, whose limit for T → 0 is f_count.

    Every peak of height v counts independently as an object, with the probability
    σ((v − threshold) / T). With f_count alone, nothing in the ELBO depends on the
    heights, and they drift across the threshold. There is one key per image, [B].

    Returns:
        n [B] int32, at most M, and the log-probability of the decisions that gave it,
        nats, [B], whose gradient raises or lowers the peaks.
    """
    candidates = peaks(lax.stop_gradient(h_loc), radius)
    logits = (h_loc - threshold) / temperature
    uniform = jax.vmap(
        lambda key: jax.random.uniform(key, h_loc.shape[1:], h_loc.dtype)
    )(keys)
    present = uniform < jax.nn.sigmoid(logits)
    log_q = jnp.where(present, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))
    n = (candidates & present).sum(axis=(1, 2))
    log_q = jnp.where(candidates, log_q, 0).sum(axis=(1, 2))
    return jnp.minimum(n, max_objects).astype(jnp.int32), log_q


def near_objects(locations: Locations, size: tuple[int, int], radius: int = 0) -> Array:
    """Marks the squares around objects in which no other peak counts, [B, H, W] bool.

    Only the sites and active slots of the locations, [B, ...], are used.
    """
    num_images = locations.site.shape[0]
    objects = jnp.zeros((num_images, size[0] * size[1]), jnp.float32)
    image = jnp.arange(num_images)[:, None]
    objects = objects.at[image, locations.site].max(locations.active)
    objects = objects.reshape(num_images, *size)
    return reduce_square(objects, _side(radius), lax.max, -jnp.inf) > 0


def log_q_count(
    h_loc: Array,
    locations: Locations,
    threshold: float,
    temperature: float,
    radius: int = 0,
) -> Array:
    """Computes the log-probability that `draw_n` counts exactly the given objects.

    It sums log σ((v − threshold) / T) over the objects, which need not be at peaks, and
    log σ(−(v − threshold) / T) over the peaks that belong to no object; the peaks in
    the square around an object belong to it. Only the sites and active slots of the
    locations, [B, ...], are used. The result is [B], nats.
    """
    num_images = h_loc.shape[0]
    logits = (h_loc - threshold) / temperature
    at_sites = jnp.take_along_axis(
        logits.reshape(num_images, -1), locations.site, axis=1
    )
    present = jnp.where(locations.active, jax.nn.log_sigmoid(at_sites), 0)
    near = near_objects(locations, h_loc.shape[1:], radius)
    others = peaks(lax.stop_gradient(h_loc), radius) & ~near
    absent = jnp.where(others, jax.nn.log_sigmoid(-logits), 0)
    return present.sum(axis=1) + absent.sum(axis=(1, 2))


def active_slots(n: Array, max_objects: int) -> Array:
    """Marks slot i of an image active when i < n: [B] int32 to [B, M] bool."""
    return jnp.arange(max_objects)[None, :] < n[:, None]


def log_p_n(n: Array, prior_n_logits: Array) -> Array:
    """Computes Eq. 2, log p(n), nats, [B], of n [B] int32 with a = softmax(logits)."""
    return distributions.Categorical(logits=prior_n_logits).log_prob(n)
