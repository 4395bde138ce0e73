"""What the figures and claims of a data set are made of: models, images, scenes."""

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
"""Between what dimensions of an appearance are changed; their prior is N(0, 1)."""

_VALUES = np.linspace(LOW, HIGH, 5)
_NUM_OBJECTS = 32


class Settings(NamedTuple):
    """What the user may choose.

    Attributes:
        num_images: Of each kind that is looked at, the first ones.
        seed: Of samples, edits and additional scenes.
        data_dir: Where data sets are, None for TFDS's default.
        manual_dir: Where MNIST's files are, None to download them.
    """

    num_images: int = 200
    seed: int = 0
    data_dir: str | None = None
    manual_dir: str | None = None

    @property
    def folders(self) -> tuple[str | None, str | None]:
        """What the functions of `datasets.load` take last."""
        return self.data_dir or None, self.manual_dir or None


class Images(NamedTuple):
    """Images of a split, and what LAVAE sees in them.

    Attributes:
        split: Its name.
        images: [N, H, W, C] uint8, its first ones.
        n: [N] true numbers of objects.
        scene: Of the N images, as NumPy arrays.
    """

    split: str
    images: np.ndarray
    n: np.ndarray
    scene: Scene


class Subject(NamedTuple):
    """What is known of a data set.

    Attributes:
        dataset: Its name.
        title: What it is called in texts.
        model: LAVAE.
        variables: Of it.
        baseline: The baseline and its variables, None if there is none.
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
        lavae: Of the data set.
        baseline: Of the same; its `source` is None if there is none.
        settings: The data set is generated first if need be.

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
    """How much each dimension of an appearance changes sprites.

    Args:
        subject: The data set.
        scene: The first object of each is looked at, of 32 scenes at most.

    Returns:
        [L], the mean change of a sprite's pixels when the dimension is set to values
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
    """The first images of a split, and what is seen in them."""
    with cli.user_errors(ValueError, OSError):
        source = load.data_source(dataset, split, *settings.folders)
    num = min(settings.num_images, len(source))
    examples = [source[index] for index in range(num)]
    images = np.stack([example["image"] for example in examples])
    n = np.array([int(example["n"]) for example in examples])
    return Images(split, images, n, batched.infer(model, variables, images))
