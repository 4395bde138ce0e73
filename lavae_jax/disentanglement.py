"""How independent objects are of each other, and their places of their looks.

What Sections 3.1 to 3.3 of the paper claim in words, as numbers: what changes in the
picture of a scene when the location or the appearance of one object is changed. NumPy
on the host; `N` images with one edited object each, `labels` as those of
`segmentation.segment`: 0 for the background, i + 1 for the object in slot i.
"""

from typing import NamedTuple

import numpy as np


class Change(NamedTuple):
    """What an edit of one object changes, per image; pixel means lie in [0, 1].

    Attributes:
      outside: [N], the largest change of any pixel outside the windows of the edited
        sprite, before and after: 0 where objects are independent.
      others: [N], mean change of the pixels of all other objects; NaN without any.
      own: [N], mean change of the object's own pixels, each compared with where it has
        gone: 0 where a place says nothing of a look. NaN without any.
    """

    outside: np.ndarray
    others: np.ndarray
    own: np.ndarray


def change(
    before: np.ndarray,
    after: np.ndarray,
    labels: np.ndarray,
    slot: np.ndarray,
    old_yx: np.ndarray,
    new_yx: np.ndarray,
    side: int,
) -> Change:
    """Compares pictures before and after an edit of the object in one slot.

    Args:
      before: [N, H, W, C] pixel means.
      after: [N, H, W, C].
      labels: [N, H, W], the objects before.
      slot: [N], which was edited.
      old_yx: [N, 2], where its sprite's centre was.
      new_yx: [N, 2], where it is: the same after an edit of the appearance.
      side: S, of the sprite.

    >>> import numpy as np
    >>> from lavae_jax import disentanglement
    >>> before, after = np.zeros((2, 1, 1, 9, 1))
    >>> before[0, 0, 2] = after[0, 0, 6] = 1.0  # moved
    >>> labels = np.zeros((1, 1, 9), int)
    >>> labels[0, 0, 2] = 1
    >>> slot, old_yx, new_yx = np.array([0]), np.array([[0, 2]]), np.array([[0, 6]])
    >>> change = disentanglement.change(
    ...     before, after, labels, slot, old_yx, new_yx, side=3
    ... )
    >>> change.outside.tolist(), change.own.tolist()
    ([0.0], [0.0])
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    size = labels.shape[1:]
    windows = window(old_yx, side, size) | window(new_yx, side, size)
    # The mean over channels for a share of the colour, the largest one for a proof.
    difference = np.abs(after - before)
    outside = np.where(windows, 0, difference.max(axis=-1)).max(axis=(1, 2))
    own = labels == slot[:, None, None] + 1
    others = _mean_where(difference.mean(axis=-1), (labels > 0) & ~own)
    return Change(outside, others, _own_change(before, after, own, new_yx - old_yx))


def window(yx: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
    """The pixels of an odd square around each centre: [N, 2] to [N, H, W] bool.

    >>> import numpy as np
    >>> from lavae_jax import disentanglement
    >>> print(disentanglement.window(np.array([[0, 1]]), 3, (3, 4))[0].astype(int))
    [[1 1 1 0]
     [1 1 1 0]
     [0 0 0 0]]
    """
    rows, columns = (np.arange(length) for length in size)
    near_row = np.abs(rows - yx[:, :1]) <= side // 2
    near_column = np.abs(columns - yx[:, 1:]) <= side // 2
    return near_row[:, :, None] & near_column[:, None, :]


def free_sites(
    labels: np.ndarray, slot: int, yx: np.ndarray, gap: int = 0
) -> np.ndarray:
    """Where one object of an image could go without touching others or being cut.

    Args:
      labels: [H, W], the objects of the image.
      slot: the one to move.
      yx: [2], where its sprite's centre is.
      gap: pixels around its bounding box that others must leave free.

    Returns:
      [K, 2], centres at which all its pixels lie inside the image, and its bounding
      box with the gap around it holds no pixel of another object; all sites where it
      has no pixels.

    >>> import numpy as np
    >>> from lavae_jax import disentanglement
    >>> labels = np.array([[1, 1, 0, 0, 2]])
    >>> disentanglement.free_sites(labels, 0, np.array([0, 0])).tolist()
    [[0, 0], [0, 1], [0, 2]]
    >>> disentanglement.free_sites(labels, 0, np.array([0, 0]), gap=1).tolist()
    [[0, 0], [0, 1]]
    """
    pixels = np.argwhere(labels == slot + 1) - yx
    if not len(pixels):
        return np.argwhere(np.ones(labels.shape, bool))
    taken = (labels > 0) & (labels != slot + 1)
    # The sum of any box is a difference of sums from the corner.
    sums = np.pad(taken.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside, ends = [], []
    for length, low, high in zip(
        labels.shape, pixels.min(axis=0), pixels.max(axis=0), strict=True
    ):
        first, last = np.arange(length) + low, np.arange(length) + high
        inside.append((first >= 0) & (last < length))
        ends.append(np.clip([first - gap, last + gap + 1], 0, length))
    (top, bottom), (left, right) = ends
    rows = sums[bottom] - sums[top]
    hits = rows[:, right] - rows[:, left]
    return np.argwhere(np.logical_and.outer(*inside) & (hits == 0))


def count_divergence(frequencies: np.ndarray, log_p_n: np.ndarray) -> float:
    """Nats that a learned p(n) costs per image beyond the best one, KL(data || p).

    Args:
      frequencies: [M + 1], how often each number of objects occurs, summing to 1.
      log_p_n: [M + 1], the learned log p(n).

    >>> import numpy as np
    >>> from lavae_jax import disentanglement
    >>> frequencies = np.array([0.5, 0.5, 0.0])
    >>> log_p_n = np.log([0.25, 0.25, 0.5])
    >>> round(disentanglement.count_divergence(frequencies, log_p_n), 3)  # log 2
    0.693
    """
    frequencies, log_p_n = np.asarray(frequencies, np.float64), np.asarray(log_p_n)
    occurs = frequencies > 0
    ratio = np.log(frequencies[occurs]) - log_p_n[occurs]
    return float((frequencies[occurs] * ratio).sum())


def _own_change(before, after, own, shift):
    """Mean change of the pixels `own` [N, H, W], found again after a shift [N, 2]."""
    result = np.full(len(own), np.nan)
    for image, mask in enumerate(own):
        old = np.argwhere(mask)
        new = old + shift[image]
        inside = ((new >= 0) & (new < mask.shape)).all(axis=1)
        if inside.any():
            (y, x), (v, u) = old[inside].T, new[inside].T
            result[image] = np.abs(after[image, v, u] - before[image, y, x]).mean()
    return result


def _mean_where(values, mask):
    """Mean of [N, H, W] values where the mask is set; NaN where it is nowhere."""
    num = mask.sum(axis=(1, 2))
    total = np.where(mask, values, 0).sum(axis=(1, 2))
    return np.where(num > 0, total / np.maximum(num, 1), np.nan)
