"""Segments scenes into objects, and measures how well two segmentations agree.

Everything here is NumPy on the host, for whole data sets of `N` images and `M` slots.
A segmentation is [N, H, W] whole numbers, 0 for the background.
"""

import numpy as np
from scipy.ndimage import label
from scipy.optimize import linear_sum_assignment

from lavae_jax.metrics import same_length

_EIGHT_NEIGHBOURS = np.ones((3, 3), int)


def segment(
    yx: np.ndarray, active: np.ndarray, masks: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """Labels each pixel with the object that a scene has there: i + 1 for slot i, or 0.

    A pixel goes to the active slot whose mask is largest there, if that is more than
    0.5, and to the background otherwise. The first of several equal slots wins. Masks
    are cut at the border.

    Args:
        yx: [N, M, 2] centres; a mask of side S covers yx - S//2 to yx + S//2.
        active: [N, M] booleans, the slots in use.
        masks: [N, M, S, S] of odd side S, as `inference.masks` gives them.
        image_size: (H, W).

    >>> import numpy as np
    >>> from lavae_jax import segmentation
    >>> yx, active = np.array([[[1, 1], [2, 4]]]), np.array([[True, True]])
    >>> masks = np.ones((1, 2, 3, 3))
    >>> print(segmentation.segment(yx, active, masks, (4, 6))[0])
    [[1 1 1 0 0 0]
     [1 1 1 2 2 2]
     [1 1 1 2 2 2]
     [0 0 0 2 2 2]]
    """
    yx, active, masks = np.asarray(yx), np.asarray(active), np.asarray(masks)
    side = masks.shape[2]
    margin = side // 2
    # With a margin around the image no sprite with its centre inside needs cutting.
    padded = (len(yx), image_size[0] + 2 * margin, image_size[1] + 2 * margin)
    strongest = np.full(padded, 0.5, masks.dtype)
    labels = np.zeros(padded, np.int32)
    for image, slot in np.argwhere(active):
        top, left = yx[image, slot]
        window = (image, slice(top, top + side), slice(left, left + side))
        mask = masks[image, slot]
        wins = mask > strongest[window]
        labels[window][wins] = slot + 1
        strongest[window][wins] = mask[wins]
    return labels[:, margin : margin + image_size[0], margin : margin + image_size[1]]


def _rand_index(labels: np.ndarray, others: np.ndarray) -> float:
    """Returns the adjusted Rand index of two labellings of any equal shapes."""
    # This import takes half a second, in which no command but evaluation needs it.
    from sklearn.metrics import adjusted_rand_score

    return adjusted_rand_score(labels.ravel(), others.ravel())


def adjusted_rand_index(
    true_labels: np.ndarray, inferred_labels: np.ndarray
) -> np.ndarray:
    """Computes adjusted Rand indices [N] of segmentations [N, H, W] with background.

    Hubert and Arabie (1985): 1 for equal partitions, 0 on average for random ones,
    and at times below 0. Which number stands for which object does not matter. For
    two images that are background throughout it is 1.
    """
    pairs = zip(*same_length(true_labels, inferred_labels), strict=True)
    return np.array([_rand_index(a, b) for a, b in pairs])


def foreground_adjusted_rand_index(
    true_labels: np.ndarray, inferred_labels: np.ndarray
) -> np.ndarray:
    """Computes adjusted Rand indices [N] on the true foreground, labels above 0.

    Foreground pixels that were called background form a group of their own, so one
    missed object costs nothing; pixels called object on the true background cost
    nothing either. The index is NaN without foreground. With a single object it is 1
    (one group) or 0, so averages are best taken over images with two or more.
    """

    def score(true, inferred):
        shown = true > 0
        if not shown.any():
            return np.nan
        return _rand_index(true[shown], inferred[shown])

    pairs = zip(*same_length(true_labels, inferred_labels), strict=True)
    return np.array([score(*pair) for pair in pairs], np.float64)


def matched_objects(
    true_labels: np.ndarray, inferred_labels: np.ndarray, least_iou: float = 0.5
) -> np.ndarray:
    """Counts pairs of a true and an inferred object that cover much the same pixels.

    Each object belongs to one pair at most, and the pixels that both objects of a pair
    cover are at least `least_iou` of those that either covers. Of all ways to pair them
    up, the one with the most such pairs counts (Hungarian algorithm). Divided by the
    number of true objects the sum over images is the recall, divided by that of the
    inferred ones the precision.

    Returns:
        [N] int64.
    """

    def count(true, inferred):
        shape = true.max() + 1, inferred.max() + 1
        both = np.zeros(shape, np.int64)
        np.add.at(both, (true.ravel(), inferred.ravel()), 1)
        either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
        # The background is no object, and unused labels have no pixels.
        close = (both >= least_iou * either)[1:, 1:] & (both > 0)[1:, 1:]
        return close[linear_sum_assignment(close, maximize=True)].sum()

    pairs = zip(*same_length(true_labels, inferred_labels), strict=True)
    return np.array([count(*pair) for pair in pairs], np.int64)


def touching(labels: np.ndarray) -> np.ndarray:
    """Tells in which segmentations [N, H, W] two objects touch, diagonally too: [N]."""
    touch = np.zeros(len(labels), bool)
    for row, column in ((0, 1), (1, 0), (1, 1), (1, -1)):
        height, width = labels.shape[1] - row, labels.shape[2] - abs(column)
        left = max(-column, 0)
        one = labels[:, :height, left : left + width]
        other = labels[:, row:, left + column : left + column + width]
        touch |= ((one != other) & (one > 0) & (other > 0)).any(axis=(1, 2))
    return touch


def count_components(images: np.ndarray, by_colour: bool = False) -> np.ndarray:
    """Counts objects as connected groups of pixels: a baseline without a model.

    From [N, H, W, C] to [N] int64. A pixel is lit where any channel is above zero, and
    connects to its eight neighbours; `by_colour` only to those of the same colour, so
    that touching objects of different colours are told apart.
    """
    lit = np.asarray(images) > 0
    channels = lit.shape[-1]
    # Every combination of lit channels is one colour, 0 is black.
    colours = lit @ (1 << np.arange(channels))
    if not by_colour:
        colours = (colours > 0).astype(int)

    def count(colour_map):
        present = np.setdiff1d(colour_map, 0)
        return sum(label(colour_map == c, _EIGHT_NEIGHBOURS)[1] for c in present)

    return np.array([count(colour_map) for colour_map in colours], np.int64)
