"""The numbers that test the paper's claims agree with loops."""

import numpy as np
import pytest

from datasets import load, scenes
from experiments.paper.subject import (
    Images,
    Settings,
    Subject,
    infer,
    measure_counts,
    measure_effects,
)
from experiments.run import build
from lavae_jax.types import Scene
from tests import tiny_models

pytestmark = pytest.mark.standard_promotion

SHAPE = (14, 11, 3)


def _images(n, inferred_n):
    """Makes images said to have n objects [N], and scenes of `inferred_n` objects."""
    rng, counts = np.random.default_rng(0), np.array(inferred_n)
    active = np.arange(8) < counts[:, None]
    yx = rng.integers(0, SHAPE[:2], (*active.shape, 2))
    z_app = rng.normal(size=(*active.shape, 4))
    scene = Scene(
        counts.astype(np.int32),
        np.where(active[..., None], yx, 0).astype(np.int32),
        np.where(active[..., None], z_app, 0).astype(np.float32),
        active,
    )
    pixels = rng.integers(0, 2, (len(counts), *SHAPE)).astype(np.uint8) * 255
    return Images("test", pixels, np.array(n), scene)


@pytest.fixture(scope="module")
def subject():
    """Makes a tiny model and images, of which image 1 is the first counted right."""
    model = tiny_models.tiny_model(SHAPE, max_objects=8, app_dim=4, sprite_size=5)
    variables = tiny_models.random_variables(model, scale=0.8)
    few = _images([3, 3, 0, 2, 3], [2, 3, 0, 2, 3])
    return Subject("multi_dsprites/tiny", "Tiny", model, variables, None, few, few)


def _sprites(subject, z_app):
    """Decodes the sprites of appearances [N, L] in one call."""
    z_app = np.pad(np.array(z_app)[:, None], ((0, 0), (0, 7), (0, 0)))
    n = np.ones(len(z_app), np.int32)
    active = np.arange(8) < n[:, None]
    scene = Scene(n, np.zeros((*active.shape, 2), np.int32), z_app, active)
    return subject.sprites(scene)[:, 0]


def test_effects_against_loops(subject):
    """Effects are mean changes of the first sprites of scenes, over five values."""
    found = measure_effects(subject, subject.few.scene)
    values, images = (-2, -1, 0, 1, 2), (0, 1, 3, 4)
    z_app = subject.few.scene.z_app
    changed = [z_app[image, 0] for image in images]
    for dim in range(4):
        for value in values:
            for image in images:
                changed.append(z_app[image, 0].copy())
                changed[-1][dim] = value
    decoded = _sprites(subject, changed)
    before, after = decoded[:4], decoded[4:].reshape(4, 5, 4, -1)
    for dim in range(4):
        changes = [
            np.abs(after[dim, value, image] - before[image].ravel()).mean()
            for value in range(5)
            for image in range(4)
        ]
        assert found[dim] == pytest.approx(np.mean(changes), rel=1e-4)
    nothing = _images([0, 0], [0, 0]).scene
    assert measure_effects(subject, nothing).tolist() == [0, 0, 0, 0]


@pytest.fixture(scope="module")
def learned(config):
    """Makes a data set with images, and a model that counts none to many objects."""
    model = build.build_model(config)
    variables = tiny_models.random_variables(model, scale=0.2)
    folders = config.data.data_dir, None
    source = load.data_source("multi_dsprites/tiny", "test", *folders)
    images = np.stack([source[index]["image"] for index in range(12)])
    model = tiny_models.counting_some(model, variables, images)
    few = Images(
        "test",
        images,
        np.array([source[index]["n"] for index in range(12)]),
        infer(model, variables, images),
    )
    return Subject("multi_dsprites/tiny", "Tiny", model, variables, None, few, few)


def test_counts_against_loops(learned):
    """Counts agree scene by scene, for every n that the maker has places for."""
    real, settings = load.scene_maker("multi_dsprites/tiny"), Settings(3, seed=5)

    def maker(split, index):
        if split.counts == (9,) and index != 1:
            raise ValueError("no place is left")
        if split.counts == (10,):
            raise ValueError("no place is left")
        return real(split, index)

    found = measure_counts(learned, maker, settings)
    assert found.num_scenes.tolist() == [3] * 9 + [1, 0]
    wanted = [(n, i) for n in range(10) for i in (range(3) if n < 9 else (1,))]
    examples = [real(scenes.extra_split(n, seed=5), index) for n, index in wanted]
    images = np.stack([example["image"] for example in examples])
    inferred = infer(learned.model, learned.variables, images).n
    confusion = np.zeros((11, 11), int)
    for example, (n, _), found_n in zip(examples, wanted, inferred, strict=True):
        assert example["n"] == n
        confusion[n, found_n] += 1
    np.testing.assert_array_equal(found.confusion, confusion)
    for n in range(10):
        assert found.accuracy[n] == confusion[n, n] / found.num_scenes[n]
    assert np.isnan(found.accuracy[10])
