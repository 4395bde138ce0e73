"""A data set with its trained models: images, inferred scenes and measurements."""

import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

import lavae_jax
from datasets import scenes
from experiments import cli
from experiments.measure import measure
from lavae_jax import editing, metrics, pretrained, released
from lavae_jax.inference import Model
from lavae_jax.types import Scene

LOW, HIGH = -2.0, 2.0
"""Range in which dimensions of an appearance are changed; their prior is N(0, 1)."""

_BATCH = 100
_VALUES = np.linspace(LOW, HIGH, 5)
_NUM_OBJECTS = 32


class Settings(NamedTuple):
    """Holds what the user may choose."""

    num_images: int = 200  # of each split, and new scenes for each n
    seed: int = 0  # of samples and new scenes
    data_dir: str | None = None  # of the data sets; None is TFDS's default
    manual_dir: str | None = None  # of MNIST's files; None downloads them

    @property
    def folders(self) -> tuple[str | None, str | None]:
        """Returns the two folders as the functions of `datasets.load` take them."""
        return self.data_dir, self.manual_dir


class Images(NamedTuple):
    """The first images of a split, and what LAVAE infers from them."""

    split: str
    images: np.ndarray  # [N, H, W, C] uint8
    n: np.ndarray  # [N] true numbers of objects
    scene: Scene  # the inferred scenes of the N images, as NumPy arrays


class Subject(NamedTuple):
    """A data set with LAVAE, the baseline if there is one, and images.

    The results of its methods are NumPy arrays.
    """

    dataset: str
    title: str
    model: lavae_jax.LAVAE
    variables: dict[str, Any]
    baseline: tuple[Model, dict[str, Any]] | None
    few: Images  # with as many objects as in training
    many: Images  # with 7 objects

    def render(self, scene: Scene) -> np.ndarray:
        """Renders N scenes as pixel means, [N, H, W, C]."""
        return _in_batches(lavae_jax.render, self.model, self.variables, scene)

    def sprites(self, scene: Scene) -> np.ndarray:
        """Decodes the sprites of N scenes, [N, M, S, S, C]."""
        return _in_batches(lavae_jax.sprites, self.model, self.variables, scene)


def infer(model: Model, variables: dict[str, Any], images: np.ndarray) -> Scene:
    """Infers the most likely scenes of [N, H, W, C] images, as NumPy arrays."""
    return _in_batches(lavae_jax.infer, model, variables, images)


def _in_batches(function, model, variables, values):
    """Applies a function to N images or scenes; memory does not grow with N."""
    values = jax.device_get(values)
    return measure.in_batches(partial(function, model, variables), [values], _BATCH)


def load_subject(
    dataset: str,
    title: str,
    source: pathlib.Path,
    baseline_source: pathlib.Path | None,
    settings: Settings,
) -> Subject:
    """Loads models, each a released one or a run, and images, and infers the scenes.

    The data set is generated first where it does not exist.
    """
    model, variables = _load(source)
    baseline = None if baseline_source is None else _load(baseline_source)
    few, many = (
        _images(model, variables, dataset, split, settings)
        for split in ("test", "test_7")
    )
    return Subject(dataset, title, model, variables, baseline, few, many)


def _load(source):
    with cli.user_errors(ValueError, OSError):
        if (source / released.CHECKSUMS).exists():
            return pretrained.load_released(source)
        return pretrained.load(source)


def _images(model, variables, dataset, split, settings):
    with cli.user_errors(ValueError, OSError):
        image_set = measure.read_split(
            dataset, split, settings.folders, settings.num_images
        )
    scene = infer(model, variables, image_set.images)
    return Images(split, image_set.images, image_set.truth.n, scene)


class Counts(NamedTuple):
    """Holds the accuracy of counts of new scenes of the same kind, by their n."""

    num_scenes: np.ndarray  # [M+1], fewer where so many objects may not fit
    accuracy: np.ndarray  # [M+1] share of them counted right; NaN without scenes
    confusion: np.ndarray  # [M+1, M+1] scenes, true counts in rows


def measure_counts(
    subject: Subject,
    scene_maker: Callable[[scenes.Split, int], dict[str, Any]],
    settings: Settings,
) -> Counts:
    """Counts the objects of new scenes, for every number from 0 to M.

    A ValueError of the scene maker says that no place is left in a scene.
    """
    most = subject.model.max_objects
    images, true_n = [], []
    for n in range(min(most, scenes.MAX_OBJECTS) + 1):
        split = scenes.extra_split(n, settings.seed, settings.num_images)
        for index in range(split.num_examples):
            try:
                images.append(scene_maker(split, index)["image"])
                true_n.append(n)
            except ValueError:
                continue
    inferred = infer(subject.model, subject.variables, np.stack(images))
    confusion = metrics.count_confusion(np.array(true_n), inferred.n, most)
    num_scenes = confusion.sum(axis=1)
    accuracy = np.where(
        num_scenes > 0, np.diag(confusion) / np.maximum(num_scenes, 1), np.nan
    )
    return Counts(num_scenes, accuracy, confusion)


def measure_effects(subject: Subject, scene: Scene) -> np.ndarray:
    """Measures how much each dimension of an appearance changes sprites.

    Returns:
        [L] the mean change of the pixels of the first objects of the first 32 scenes
        when the dimension is set to values from `LOW` to `HIGH` and the rest stays;
        zeros if the scenes have no objects.
    """
    app_dim = scene.z_app.shape[-1]
    images = np.flatnonzero(np.asarray(scene.n) > 0)[:_NUM_OBJECTS]
    if not len(images):
        return np.zeros(app_dim)
    objects = editing.select(editing.take(scene, images), 0)

    def edit(scene, dim, value):
        return editing.restyle(scene, 0, dim, value)

    edited = editing.traverse(objects, edit, range(app_dim), _VALUES)
    before, after = (subject.sprites(scene)[:, 0] for scene in (objects, edited))
    after = after.reshape(app_dim, len(_VALUES), *before.shape)
    return np.abs(after - before).mean(axis=(1, 2, 3, 4, 5))
