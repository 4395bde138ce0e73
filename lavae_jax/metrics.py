"""The measures of an evaluation: counts, locations and bounds.

Everything here is NumPy on the host, for whole data sets of `N` images and `M` slots.
Positions are (row, column) in pixels, and bounds are in nats.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import logsumexp


class Estimate(NamedTuple):
    """A mean over images with its standard error; NaN where it is undefined."""

    mean: float
    standard_error: float
    num: int


class LocationError(NamedTuple):
    """Distances in pixels between matched centres, after removing `offset`."""

    mean: float
    median: float
    rms: float
    offset: tuple[float, float]  # (rows, columns), inferred minus true
    num_matched: int
    num_missed: int  # true objects left without a partner
    num_spurious: int  # inferred objects left without a partner


class ImportanceBound(NamedTuple):
    """A bound on log p(x) from `num_samples` importance samples, per image."""

    num_samples: int
    log_p: np.ndarray  # [N] nats
    effective_samples: np.ndarray  # [N], between 0 and num_samples


def mean_and_error(values: np.ndarray) -> Estimate:
    """Computes the mean of [N] values and its standard error, sqrt(variance / N).

    The variance is the unbiased one (N - 1), so the error of fewer than two values is
    NaN, as is the mean of none.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0:
        return Estimate(np.nan, np.nan, 0)
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return Estimate(float(values.mean()), float(error), values.size)


def count_accuracy(true_n: np.ndarray, inferred_n: np.ndarray) -> float:
    """Computes the share of images [N] whose inferred n is right (Table 1)."""
    true_n, inferred_n = same_length(true_n, inferred_n)
    return float(np.mean(true_n == inferred_n)) if true_n.size else np.nan


def count_confusion(
    true_n: np.ndarray, inferred_n: np.ndarray, max_objects: int
) -> np.ndarray:
    """Counts images by true (rows) and inferred (columns) n, [M+1, M+1].

    Raises:
        ValueError: if the lengths differ or a count lies outside 0..M.
    """
    true_n, inferred_n = same_length(true_n, inferred_n)
    for name, counts in (("true", true_n), ("inferred", inferred_n)):
        if counts.size and not 0 <= counts.min() <= counts.max() <= max_objects:
            raise ValueError(
                f"{name} counts run from {counts.min()} to {counts.max()}, but must"
                f" lie in 0..{max_objects}: pass a larger max_objects."
            )
    confusion = np.zeros((max_objects + 1, max_objects + 1), np.int64)
    np.add.at(confusion, (true_n, inferred_n), 1)
    return confusion


def location_error(
    true_yx: Sequence[np.ndarray], inferred_yx: Sequence[np.ndarray]
) -> LocationError:
    """Measures distances between true and inferred centres, matched one to one.

    The match minimises the summed distance in an image (Hungarian algorithm). The
    sprite decoder is free to draw its object off the middle of its window, which
    shifts all inferred centres alike: this constant, the median difference over the
    data set, is removed before a second match gives the distances. All images count,
    whether their number of objects was right or not; an object without a partner enters
    no distance and is reported as missed or spurious.

    Args:
        true_yx: N arrays [n, 2], the true centres of each image.
        inferred_yx: N arrays [n_inferred, 2], the inferred ones.

    Returns:
        A `LocationError`; distances and offset are NaN if nothing was matched.

    Raises:
        ValueError: if there are not as many arrays of true centres as of inferred ones.

    >>> from lavae_jax import metrics
    >>> true = [[(10, 10), (40, 20)], [(30, 30)]]
    >>> inferred = [[(40, 21), (10, 11)], [(33, 31)]]
    >>> error = metrics.location_error(true, inferred)
    >>> error.offset, error.mean, error.median
    ((0.0, 1.0), 1.0, 0.0)
    """
    num_true = sum(len(yx) for yx in true_yx)
    num_inferred = sum(len(yx) for yx in inferred_yx)
    raw = _matched_differences(true_yx, inferred_yx, np.zeros(2))
    if not len(raw):
        nan = np.nan
        return LocationError(nan, nan, nan, (nan, nan), 0, num_true, num_inferred)
    offset = np.median(raw, axis=0)
    matched = _matched_differences(true_yx, inferred_yx, offset)
    distances = np.linalg.norm(matched, axis=1)
    return LocationError(
        mean=float(distances.mean()),
        median=float(np.median(distances)),
        rms=float(np.sqrt(np.mean(distances**2))),
        offset=(float(offset[0]), float(offset[1])),
        num_matched=len(distances),
        num_missed=num_true - len(distances),
        num_spurious=num_inferred - len(distances),
    )


def importance_bounds(
    log_weights: np.ndarray, num_samples: Sequence[int] = (1, 10, 100)
) -> tuple[ImportanceBound, ...]:
    """Computes bounds log 1/K sum_k w_k on log p(x) for several K from the same w.

    Burda et al. (2016), Eq. 8; K = 1 is the ELBO. For a K below the number of weights
    these are split into as many groups of K as they fill, and the groups' bounds
    averaged: the expectation is that of one group, with less noise. The effective
    sample size (sum w)^2 / sum w^2 is averaged alike.

    Args:
        log_weights: [K, N] log importance weights, in nats.
        num_samples: the values of K; those above the number of weights are left out.
    """
    log_weights = np.asarray(log_weights, np.float64)
    available, num_images = log_weights.shape
    bounds = []
    for k in num_samples:
        if k > available:
            continue
        groups = log_weights[: available - available % k].reshape(-1, k, num_images)
        log_sum = logsumexp(groups, axis=1)
        # Weights that are all zero leave -inf - -inf; such a group has no sample.
        with np.errstate(invalid="ignore"):
            log_size = 2 * log_sum - logsumexp(2 * groups, axis=1)
        effective = np.where(np.isneginf(log_sum), 0.0, np.exp(log_size))
        log_p = (log_sum - np.log(k)).mean(0)
        bounds.append(ImportanceBound(k, log_p, effective.mean(0)))
    return tuple(bounds)


def same_length(
    true: np.ndarray, inferred: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Converts both to arrays; raises ValueError if their shapes differ."""
    true, inferred = np.asarray(true), np.asarray(inferred)
    if true.shape != inferred.shape:
        raise ValueError(
            f"true values of shape {true.shape} cannot be compared with inferred"
            f" ones of shape {inferred.shape}: both need the same images in order."
        )
    return true, inferred


def _matched_differences(true_yx, inferred_yx, offset):
    """Returns inferred minus true of all P matched pairs, less `offset`: [P, 2]."""
    differences = [np.zeros((0, 2))]
    for true, inferred in zip(true_yx, inferred_yx, strict=True):
        true = np.asarray(true, np.float64).reshape(-1, 2)
        inferred = np.asarray(inferred, np.float64).reshape(-1, 2) - offset
        rows, columns = linear_sum_assignment(cdist(true, inferred))
        differences.append(inferred[columns] - true[rows])
    return np.concatenate(differences)
