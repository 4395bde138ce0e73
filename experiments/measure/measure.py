"""Measures a model on images, and computes the results in a report."""

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import auto as tqdm

import lavae_jax
from datasets import floors, load
from experiments.measure import report
from lavae_jax import metrics, object_draws, segmentation
from lavae_jax.images import to_float
from lavae_jax.inference import Model

_SAMPLE_SIZES = (1, 10, 100)


class Settings(NamedTuple):
    """Settings of an evaluation; all but `batch_size` change the report."""

    num_images: int | None = None  # at most this many, the first of each set
    num_samples: int = 100  # importance samples per image, the largest K
    num_candidates: int = 0  # per object, of num_samples; 0 for no bound by object
    batch_size: int = 100
    seed: int = 0


class TrueScenes(NamedTuple):
    """True scenes of N images; centres and labels are None where only n is known."""

    n: np.ndarray  # [N]
    centres: Sequence[np.ndarray] | None  # N times [n, 2], rows and columns
    labels: np.ndarray | None  # [N, H, W], 0 for the background


class ImageSet(NamedTuple):
    """Named images, with their true scenes and the floor where these are known."""

    name: str
    images: np.ndarray  # [N, H, W, C] uint8
    truth: TrueScenes | None = None
    floor: floors.Floor | None = None


class Scenes(NamedTuple):
    """Objects that a model infers from N images."""

    n: np.ndarray  # [N]
    yx: np.ndarray  # [N, M, 2], rows and columns
    active: np.ndarray  # [N, M], the slots that hold objects
    labels: np.ndarray  # [N, H, W], 0 for the background


class Inferred(NamedTuple):
    """Holds what a model infers from N images."""

    scenes: Scenes | None  # None for the baseline, which has no objects
    log_weights: np.ndarray  # [N, K] nats
    object_log_weights: np.ndarray | None = None  # [N, samples of locations] nats


def split_sets(
    data: ConfigDict, splits: Sequence[str] | None, num_images: int | None
) -> Iterator[ImageSet]:
    """Reads splits of a data set one by one, and generates the data set if needed.

    Args:
        data: a section of a config with `name`, `data_dir` and `manual_dir`.
        splits: names of splits, or parts such as "train[-10%:]", all checked at once;
            None is all test splits.
        num_images: how many images to read at most, from the start; None is all.
    """
    known = load.splits(data.name)
    names = splits or [name for name in known if name.startswith("test")]
    # The names are checked before the data set is generated, which takes minutes.
    for name in names:
        load.check_split(data.name, name)
    load.builder(data.name, data.data_dir, data.manual_dir)
    return (_split_with_floor(data, name, num_images) for name in names)


def read_split(
    dataset: str, split: str, folders: tuple[str | None, str | None], num: int | None
) -> ImageSet:
    """Reads at most `num` images of a split, and their true scenes."""
    source = load.data_source(dataset, split, *folders)
    examples = [source[index] for index in range(min(len(source), num or len(source)))]
    truth = TrueScenes(
        n=np.array([int(example["n"]) for example in examples]),
        centres=[example["centre"][: example["n"]] for example in examples],
        labels=np.stack([example["segmentation"] for example in examples]),
    )
    return ImageSet(split, np.stack([example["image"] for example in examples]), truth)


def infer(
    model: Model, variables: dict[str, Any], image_set: ImageSet, settings: Settings
) -> Inferred:
    """Infers scenes and draws importance samples, with a progress bar.

    Every image draws with a key of its own, made of the seed, the set's name and the
    image's position, so that its result does not depend on its neighbours in a batch.
    """
    num_images = len(image_set.images)
    key = jax.random.fold_in(
        jax.random.key(settings.seed), zlib.crc32(image_set.name.encode())
    )
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(num_images))
    return in_batches(
        lambda *batch: _infer_batch(model, variables, *batch, settings),
        (image_set.images, keys),
        min(settings.batch_size, num_images),
        image_set.name,
    )


def in_batches(
    function: Callable[..., Any],
    arrays: Sequence[Any],
    batch_size: int,
    description: str | None = None,
) -> Any:
    """Applies a function to trees of arrays, `batch_size` rows at a time.

    The last batch is filled up with rows of the first, so that the function is compiled
    once. The results are NumPy arrays. A description gives a progress bar.
    """
    num, parts = len(jax.tree.leaves(arrays)[0]), []
    hidden = description is None
    with tqdm.tqdm(total=num, desc=description, unit=" images", disable=hidden) as bar:
        for start in range(0, num, batch_size):
            indices = np.arange(start, start + batch_size) % num
            batch = jax.tree.map(lambda x, rows=indices: x[rows], arrays)
            parts.append(jax.device_get(function(*batch)))
            bar.update(min(batch_size, num - start))
    return jax.tree.map(lambda *x: np.concatenate(x)[:num], *parts)


def learned_log_p_n(model: Model, variables: dict[str, Any]) -> np.ndarray | None:
    """Returns LAVAE's learned log p(n), [M+1] nats, or None for the baseline."""
    if not isinstance(model, lavae_jax.LAVAE):
        return None
    counts = jnp.arange(model.max_objects + 1)
    return np.asarray(model.bind(variables).log_p_n(counts))


def compare(
    image_set: ImageSet,
    inferred: Inferred,
    log_p_n: np.ndarray | None,
    num_candidates: int = 0,
) -> report.SplitReport:
    """Computes the results in a report on one set of images.

    `log_p_n` are the [M+1] learned log p(n), nats; None for the baseline. The number of
    candidates is that of the settings.
    """
    log_weights = inferred.log_weights.T
    num_samples = len(log_weights)
    sizes = [*(k for k in _SAMPLE_SIZES if k < num_samples), num_samples]
    bounds = tuple(
        report.Bound(
            bound.num_samples,
            metrics.mean_and_error(-bound.log_p),
            float(bound.effective_samples.mean()),
        )
        for bound in metrics.importance_bounds(log_weights, sizes)
    )
    counts, truth, scenes = None, None, inferred.scenes
    if scenes is not None:
        counts = np.bincount(scenes.n, minlength=len(log_p_n))
        truth = image_set.truth and _compare_scenes(image_set, scenes, log_p_n)
    return report.SplitReport(
        name=image_set.name,
        num_images=len(image_set.images),
        bounds=bounds,
        object_bound=_object_bound(inferred.object_log_weights, num_candidates),
        counts=counts,
        truth=truth,
        floor=image_set.floor and _distance(image_set.floor, bounds[-1], scenes),
    )


def _distance(floor, bound, scenes):
    """Computes how far a bound is above the floor."""
    # The baseline has no prior over sites, which raises the floor of LAVAE.
    least = floor.floor if scenes is not None else floor.entropy
    return report.Floor(floor.entropy, least, bound.negative_log_p.mean - least)


def _compare_scenes(image_set, scenes, log_p_n):
    """Computes the results that need true scenes."""
    images, truth = image_set.images, image_set.truth
    # Images may have more objects than the model has slots.
    largest = max(len(log_p_n) - 1, truth.n.max())
    log_p_n = np.append(log_p_n, np.full(largest + 1 - len(log_p_n), -np.inf))

    is_lit_or_not = np.isin(images, (0, 255)).all()

    def components_accuracy(by_colour):
        if not is_lit_or_not or (by_colour and images.shape[-1] == 1):
            return None
        counts = segmentation.count_components(images, by_colour)
        return metrics.count_accuracy(truth.n, counts)

    return report.Truth(
        count_accuracy=metrics.count_accuracy(truth.n, scenes.n),
        confusion=metrics.count_confusion(truth.n, scenes.n, largest),
        count_nats=float(-log_p_n[truth.n].mean()),
        location=_compare_locations(truth, scenes),
        segments=_compare_segments(truth, scenes),
        components_accuracy=components_accuracy(by_colour=False),
        components_by_colour_accuracy=components_accuracy(by_colour=True),
    )


def _compare_locations(truth, scenes):
    """Compares the sites with the true centres; None where these are unknown."""
    if truth.centres is None:
        return None
    sites = [yx[used] for yx, used in zip(scenes.yx, scenes.active, strict=True)]
    return metrics.location_error(truth.centres, sites)


def _compare_segments(truth, scenes):
    """Compares two segmentations; None where the true one is unknown."""
    if truth.labels is None:
        return None
    ari = segmentation.adjusted_rand_index(truth.labels, scenes.labels)
    fg_ari = segmentation.foreground_adjusted_rand_index(truth.labels, scenes.labels)
    matched = segmentation.matched_objects(truth.labels, scenes.labels).sum()
    apart = ~segmentation.touching(truth.labels)
    return report.Segments(
        apart_accuracy=metrics.count_accuracy(truth.n[apart], scenes.n[apart]),
        recall=_share(matched, truth.n),
        precision=_share(matched, scenes.n),
        ari=metrics.mean_and_error(ari),
        fg_ari=metrics.mean_and_error(fg_ari[truth.n >= 2]),
        fg_ari_any_object=metrics.mean_and_error(fg_ari[truth.n >= 1]),
    )


def _share(matched, n):
    """Returns the share of all objects that are matched; NaN without objects."""
    return float(matched / n.sum()) if n.any() else np.nan


def _split_with_floor(data, split, num_images):
    folders = (data.data_dir, data.manual_dir)
    scenes = read_split(data.name, split, folders, num_images)
    if split not in load.splits(data.name):  # it is a part of one
        return scenes
    return scenes._replace(floor=_floor(data.name, split, *folders))


@functools.cache  # it takes seconds and never changes
def _floor(name, split, data_dir, manual_dir):
    """Computes the floor of a split; None if it has objects unknown in training."""
    try:
        return floors.floor(name, split, data_dir, manual_dir)
    except floors.NoFloorError:
        return None


def _infer_batch(model, variables, images, keys, settings):
    """Infers one batch; the results are on the host."""
    num_samples, num_candidates = settings.num_samples, settings.num_candidates
    log_weights = lavae_jax.log_weights(model, variables, images, keys, num_samples)
    log_weights, by_object = np.asarray(log_weights).T, None
    if not isinstance(model, lavae_jax.LAVAE):
        return Inferred(None, log_weights)
    scene = lavae_jax.infer(model, variables, images)
    masks = lavae_jax.masks(model, variables, scene)
    scene, masks = jax.device_get((scene, masks))
    if num_candidates:
        sizes = max(num_samples // num_candidates, 1), num_candidates
        by_object = _by_object(
            model, variables, to_float(images, model.is_binary), keys, *sizes
        ).T
    labels = segmentation.segment(scene.yx, scene.active, masks, images.shape[1:3])
    scenes = Scenes(scene.n, scene.yx, scene.active, labels)
    return Inferred(scenes, log_weights, by_object)


_by_object = jax.jit(object_draws.log_weights, static_argnums=(0, 4, 5))


def _object_bound(log_weights, num_candidates):
    """Computes the bound from the weights [N, S] of objects drawn one by one."""
    if log_weights is None:
        return None
    num_samples = log_weights.shape[1]
    (bound,) = metrics.importance_bounds(log_weights.T, [num_samples])
    estimate = metrics.mean_and_error(-bound.log_p)
    return report.ObjectBound(num_samples, num_candidates, estimate)
