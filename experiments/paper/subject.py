"""Loads what the figures and claims of a data set need: models, images, scenes."""

from typing import Any, NamedTuple

import numpy as np

import lavae_jax
from datasets import load
from experiments import cli
from experiments.paper import batched
from experiments.paper import models as paper_models
from experiments.paper.models import Models
from lavae_jax import editing
from lavae_jax.inference import Model
from lavae_jax.types import Scene

LOW, HIGH = -2.0, 2.0
"""Range in which dimensions of an appearance are changed; their prior is N(0, 1)."""

_VALUES = np.linspace(LOW, HIGH, 5)
_NUM_OBJECTS = 32


class Settings(NamedTuple):
    """What the user may choose.

    Attributes:
        num_images: How many images of each split, and new scenes for each n, are used.
        seed: Seed of samples and additional scenes.
        data_dir: Folder of the data sets; None is TFDS's default.
        manual_dir: Folder of MNIST's files; None downloads them.
    """

    num_images: int = 200
    seed: int = 0
    data_dir: str | None = None
    manual_dir: str | None = None

    @property
    def folders(self) -> tuple[str | None, str | None]:
        """The two folders, as the functions of `datasets.load` take them."""
        return self.data_dir or None, self.manual_dir or None


class Images(NamedTuple):
    """The first images of a split, and what LAVAE sees in them.

    Attributes:
        split: Name of the split.
        images: [N, H, W, C] uint8.
        n: [N] true numbers of objects.
        scene: The inferred scenes of the N images, as NumPy arrays.
    """

    split: str
    images: np.ndarray
    n: np.ndarray
    scene: Scene


class Subject(NamedTuple):
    """A data set with its models, and images with their inferred scenes.

    Attributes:
        dataset: Name of the data set.
        title: Its title in texts.
        model: LAVAE.
        variables: Variables of LAVAE.
        baseline: The baseline and its variables, or None.
        few: Images with as many objects as in training.
        many: Images with 7 objects.
    """

    dataset: str
    title: str
    model: lavae_jax.LAVAE
    variables: dict[str, Any]
    baseline: tuple[Model, dict[str, Any]] | None
    few: Images
    many: Images


def look(lavae: Models, baseline: Models, settings: Settings) -> Subject:
    """Loads models and images, and infers the scenes.

    Args:
        lavae: LAVAE of the data set.
        baseline: The baseline of the data set; its `source` is None if there is none.
        settings: How many images to load, and from where. A data set that does not
            exist is generated first.

    Raises:
        cli.UserError: If models or data can't be read.
    """
    model, variables = paper_models.load(lavae)
    few, many = (
        _images(model, variables, lavae.dataset, split, settings)
        for split in ("test", "test_7")
    )
    return Subject(
        lavae.dataset,
        paper_models.title(lavae.dataset),
        model,
        variables,
        None if baseline.source is None else paper_models.load(baseline),
        few,
        many,
    )


def effects(subject: Subject, scene: Scene) -> np.ndarray:
    """Measures how much each dimension of an appearance changes sprites.

    Args:
        subject: The data set with its model.
        scene: Scenes; the first object of each of the first 32 is used.

    Returns:
        [L] the mean change of a sprite's pixels when the dimension is set to values
        from `LOW` to `HIGH` and the rest stays; zeros if the scenes have no objects.
    """
    app_dim = scene.z_app.shape[-1]
    images = np.flatnonzero(np.asarray(scene.n) > 0)[:_NUM_OBJECTS]
    if not len(images):
        return np.zeros(app_dim)
    objects = editing.select(editing.take(scene, images), 0)

    def edit(scene, dim, value):
        return editing.restyle(scene, 0, dim, value)

    edited = editing.traverse(objects, edit, range(app_dim), _VALUES)
    before, after = (
        batched.sprites(subject.model, subject.variables, one)[:, 0]
        for one in (objects, edited)
    )
    after = after.reshape(app_dim, len(_VALUES), *before.shape)
    return np.abs(after - before).mean(axis=(1, 2, 3, 4, 5))


def _images(model, variables, dataset, split, settings):
    """Reads the first images of a split, and infers their scenes."""
    with cli.user_errors(ValueError, OSError):
        source = load.data_source(dataset, split, *settings.folders)
    num = min(settings.num_images, len(source))
    examples = [source[index] for index in range(num)]
    images = np.stack([example["image"] for example in examples])
    n = np.array([int(example["n"]) for example in examples])
    return Images(split, images, n, batched.infer(model, variables, images))
