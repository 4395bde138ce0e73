"""Finds the objects of images of any size and number, for people who count things.

The networks of a trained LAVAE work at every pixel alike, so a model of small scenes
also finds the objects of large images, and more of them than it has slots.
"""

import collections
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lavae_jax import background as backgrounds
from lavae_jax import inference, likelihood
from lavae_jax.images import check, check_each
from lavae_jax.latents import appearance as appearances
from lavae_jax.latents import counts
from lavae_jax.model import LAVAE
from lavae_jax.types import Array, Variables, hard_locations

_COVERED = 0.5
"""A pixel belongs to an object if its mask (`inference.masks`) is above this there."""

_LEAST_SLOTS = 8

_BATCH_PIXELS = 2**19
"""Images are taken together up to this number of pixels, 128 images of 64×64."""


class FoundObjects(NamedTuple):
    """The n objects of one image, from the top to the bottom.

    Attributes:
        yx: [n, 2] int, row and column of each sprite's centre.
        box: [n, 4] int, (top, left, bottom, right) of the pixels that the object
            covers, bottom and right exclusive; cut at the border.
        log_evidence: [n] nats by which the object raises the ELBO: what it adds to
            log p(x | z), less the KL of its appearance and log D for its place.
        mask: [n, S, S] in [0, 1], S odd: which pixels around its centre each object
            covers, those above 0.5. `segmentation.segment` makes labels of them.
    """

    yx: np.ndarray
    box: np.ndarray
    log_evidence: np.ndarray
    mask: np.ndarray

    @property
    def n(self) -> int:
        """Returns the number of objects."""
        return len(self.yx)

    def with_evidence(self, least: float) -> "FoundObjects":
        """Returns the objects whose `log_evidence` is at least `least` nats."""
        return FoundObjects(*(field[self.log_evidence >= least] for field in self))

    @property
    def centre(self) -> np.ndarray:
        """Returns the centres of the boxes, [n, 2], between two pixels at a half."""
        return (self.box[:, :2] + self.box[:, 2:] - 1) / 2


def find_objects(
    model: LAVAE, variables: Variables, images: Sequence[np.ndarray]
) -> list[FoundObjects]:
    """Finds the objects of each image: how many, where, and how certain.

    There is no limit to their number. Images of the model's size have the objects that
    `infer` finds. The background of larger ones is put together from windows of the
    model's size (`background.of_large_images`). Images of other sizes get a margin of
    background at their right and lower border, so objects near it may be seen a little
    differently than at the others.

    Args:
        model: LAVAE, as `load` and `load_pretrained` return it.
        variables: its variables.
        images: images [H, W, C], or [H, W] for a model of grey images, of any sizes,
            with pixels as `infer` takes them. A ValueError or TypeError says what is
            wrong with others, before any is looked at.

    Returns:
        What was found in each image.

    >>> import jax
    >>> import lavae_jax
    >>> model, variables = lavae_jax.load_pretrained("multi_dsprites")
    >>> images = lavae_jax.generate(model, variables, jax.random.key(1), 3) > 0.5
    >>> images = [*images, np.concatenate(images, axis=1)]  # the last is 192 wide
    >>> [found.n for found in lavae_jax.find_objects(model, variables, images)]
    [2, 1, 0, 3]
    """
    inference.check_has_objects(model)
    images = check_each(images, model.image_shape[2], model.is_binary)
    groups = collections.defaultdict(list)
    for index, image in enumerate(images):
        groups[padded_size(image.shape[:2], model.image_shape)].append(index)
    found: dict[int, FoundObjects] = {}
    for size, indices in groups.items():
        num = max(_BATCH_PIXELS // math.prod(size), 1)
        for start in range(0, len(indices), num):
            batch = indices[start : start + num]
            results = _find(model, variables, [images[i] for i in batch], size)
            found |= zip(batch, results, strict=True)
    return [found[index] for index in range(len(images))]


def padded_size(
    size: tuple[int, int], image_shape: tuple[int, int, int]
) -> tuple[int, int]:
    """Returns the size that images of some size are padded to.

    It is the model's, or each side is 64, 96, 128, 192, ..., and no less than the
    model's, so that few sizes have to be compiled.
    """
    if tuple(size) == image_shape[:2]:
        return image_shape[:2]

    def padded(side, least):
        power = 2 ** math.ceil(math.log2(max(side, 64)))
        rounded = max(power * 3 // 4, 64) if side <= power * 3 // 4 else power
        return max(rounded, least)

    return padded(size[0], image_shape[0]), padded(size[1], image_shape[1])


def _find(model, variables, images, size):
    """Finds the objects of images that `check_each` returned, padded to one size."""
    channels, num = model.image_shape[2], len(images)
    # The number of images is rounded up too, as every other one has to be compiled.
    batch = np.zeros((_rounded_up(num), *size, channels), np.float32)
    sizes = np.tile(size, (len(batch), 1))
    for row, image in enumerate(images):
        height, width, _ = image.shape
        x = check(image[None], image.shape, model.is_binary)
        margin = ((0, size[0] - height), (0, size[1] - width), (0, 0))
        mode = "constant" if model.is_binary else "edge"
        batch[row] = np.pad(x[0], margin, mode)
        sizes[row] = height, width
    # A learned prior of locations is for images of the model's size; it is not needed.
    large = model.clone(image_shape=(*size, channels), location_prior="uniform")
    window = model.image_shape[:2]
    sizes[num:] = 0  # these rows fill the batch up
    batch, behind, is_object = _peaks(large, window, variables, batch, sizes)
    is_object = np.asarray(is_object)
    n = is_object.sum(axis=(1, 2))
    num_slots = _rounded_up(max(int(n.max()), _LEAST_SLOTS))
    sites = np.zeros((len(batch), num_slots), np.int32)
    active = np.arange(num_slots) < n[:, None]
    sites[active] = np.nonzero(is_object.reshape(len(batch), -1))[1]
    large, variables = _with_slots(large, variables, num_slots)
    arguments = batch, behind, sizes, sites, active
    masks, evidence = jax.device_get(_describe(large, variables, *arguments))
    yx = np.stack(np.divmod(sites, size[1]), axis=-1)
    return [
        FoundObjects(
            yx[row, : n[row]],
            _boxes(yx[row, : n[row]], masks[row, : n[row]], images[row].shape[:2]),
            evidence[row, : n[row]],
            masks[row, : n[row]].copy(),  # not a view, which would keep the batch
        )
        for row in range(num)
    ]


def _rounded_up(number):
    return 2 ** math.ceil(math.log2(number))


def _with_slots(model, variables, num_slots):
    """Returns the model with another number of slots; its p(n) is of no use then."""
    params = {**variables["params"], "prior_n_logits": np.zeros(num_slots + 1)}
    return model.clone(max_objects=num_slots), {**variables, "params": params}


@partial(jax.jit, static_argnums=(0, 1))
def _peaks(
    model: LAVAE, window: tuple[int, int], variables: Variables, x: Array, sizes: Array
) -> tuple[Array, Array | None, Array]:
    """Marks the sites that f_count counts.

    Args:
        model: a model of images as large as x.
        window: the size of the images that it was trained on.
        variables: its variables.
        x: padded images [B, H, W, C].
        sizes: [B, 2] rows and columns without the margin.

    Returns:
        The images with background in their margin, the background, and the sites,
        [B, H, W] bool.
    """
    bound = model.bind(variables)
    behind = backgrounds.of_large_images(bound.background_net, x, sizes, window)
    inside = _inside(sizes, x.shape[1:3])
    if behind is not None:
        x = jnp.where(inside[..., None], x, behind)
    h_loc = jnp.where(inside, bound.location_logits(x, behind=behind), -jnp.inf)
    above = h_loc > model.count_threshold
    return x, behind, counts.peaks(h_loc, model.exclusion_radius) & above


def _inside(sizes, whole):
    """Marks the pixels of images of sizes [B, 2] in a larger whole, [B, H, W]."""
    rows, columns = map(jnp.arange, whole)
    inside = rows[:, None] < sizes[:, 0, None, None]
    return inside & (columns < sizes[:, 1, None, None])


@partial(jax.jit, static_argnums=0)
def _describe(
    model: LAVAE,
    variables: Variables,
    x: Array,
    behind: Array | None,
    sizes: Array,
    sites: Array,
    active: Array,
) -> tuple[Array, Array]:
    """Paints objects at sites [B, M] of images of `_peaks`, of sizes [B, 2].

    Returns:
        Their masks [B, M, S, S], and the evidence, [B, M] nats.
    """
    bound = model.bind(variables)
    locations = hard_locations(sites, active)
    features = bound.appearance_features(x, behind=behind)
    appearance = bound.appearance(features, locations)
    layers = bound.layers(appearance.mu, active)
    canvas = bound.canvas(layers, locations)
    behind = jnp.zeros_like(x) if behind is None else behind
    width, side, noise = x.shape[2], layers.shape[2], bound.noise()
    margin = [(side // 2,) * 2, (side // 2,) * 2, (0, 0)]

    def log_p(x, canvas, behind):
        painted = bound.blend(canvas, behind)
        return likelihood.log_likelihood(x, painted, noise, model.pixels).sum(axis=-1)

    def one_image(sites, layers, *images):
        padded = [jnp.pad(image, margin) for image in images]

        def gain(site, layer):
            corner = site // width, site % width, 0
            x, canvas, behind, inside = (
                lax.dynamic_slice(a, corner, (side, side, a.shape[-1])) for a in padded
            )
            without = log_p(x, bound.without(canvas, layer), behind)
            return jnp.sum(inside[..., 0] * (log_p(x, canvas, behind) - without))

        return jax.vmap(gain)(sites, layers)

    inside = _inside(sizes, x.shape[1:3])
    gains = jax.vmap(one_image)(sites, layers, x, canvas, behind, inside[..., None])
    num_sites = jnp.maximum(sizes.prod(axis=1, keepdims=True), 1)
    evidence = gains - appearances.kl(appearance) - jnp.log(num_sites)
    masks = inference.masks_at(
        model, variables, appearance.mu, locations, behind, inside
    )
    return masks, evidence


def _boxes(yx, masks, size):
    """Returns the boxes [n, 4] of what masks cover in an image; of the centre if none.

    The result is inside the image's size.
    """
    boxes = []
    for (row, column), mask in zip(yx, masks, strict=True):
        top, left = row - mask.shape[0] // 2, column - mask.shape[1] // 2
        rows, columns = np.nonzero(mask > _COVERED) + np.array([[top], [left]])
        is_inside = (
            (rows >= 0) & (columns >= 0) & (rows < size[0]) & (columns < size[1])
        )
        rows, columns = rows[is_inside], columns[is_inside]
        if not rows.size:
            rows, columns = np.array([row]), np.array([column])
        boxes.append((rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
    return np.array(boxes, int).reshape(-1, 4)
