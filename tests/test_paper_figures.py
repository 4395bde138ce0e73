"""The figures of the paper show the scenes that they say, edited as they say."""

import numpy as np
import pytest

from experiments.paper import figures
from experiments.paper.subject import Images, Subject, measure_effects
from lavae_jax import editing
from lavae_jax.types import Scene
from tests import tiny_models

pytestmark = pytest.mark.standard_promotion


SHAPE = (14, 11, 3)


def _images(split, n, inferred_n=None, seed=0, max_objects=8, app_dim=4):
    """Images with n objects each [N], and scenes with other numbers if asked for."""
    rng = np.random.default_rng(seed)
    counts = np.array(n if inferred_n is None else inferred_n)
    active = np.arange(max_objects) < counts[:, None]
    yx = rng.integers(0, SHAPE[:2], (*active.shape, 2))
    z_app = rng.normal(size=(*active.shape, app_dim))
    scene = Scene(
        counts.astype(np.int32),
        np.where(active[..., None], yx, 0).astype(np.int32),
        np.where(active[..., None], z_app, 0).astype(np.float32),
        active,
    )
    pixels = rng.integers(0, 2, (len(counts), *SHAPE)).astype(np.uint8) * 255
    return Images(split, pixels, np.array(n), scene)


def _subject(few, many):
    """A data set of LAVAE with parameters of no meaning."""
    model = tiny_models.tiny_model(SHAPE, max_objects=8, app_dim=4, sprite_size=5)
    variables = tiny_models.random_variables(model, scale=0.8)
    return Subject("multi_dsprites/tiny", "Tiny", model, variables, None, few, many)


@pytest.fixture(scope="module")
def subject():
    """Makes images: 1 and, of 7 objects, 0 are the first that are counted right."""
    return _subject(
        _images("test", [3, 3, 0, 2, 3], [2, 3, 0, 2, 3]),
        _images("test_7", [7, 7], seed=1),
    )


def _panels(figure, columns):
    panels = np.array(figure.axes).reshape(-1, columns)
    return panels, [
        [
            np.asarray(panel.images[0].get_array()) if panel.images else None
            for panel in row
        ]
        for row in panels
    ]


def _assert_shows(panel, means):
    """Compares up to rounding, which may differ between batches."""
    np.testing.assert_allclose(panel, np.clip(means, 0, 1), atol=1e-5)


def _sprites(subject, z_app):
    """Decodes the sprites of appearances [N, L] in one call."""
    z_app = np.pad(np.array(z_app)[:, None], ((0, 0), (0, 7), (0, 0)))
    n = np.ones(len(z_app), np.int32)
    active = np.arange(8) < n[:, None]
    scene = Scene(n, np.zeros((*active.shape, 2), np.int32), z_app, active)
    return subject.sprites(scene)[:, 0]


def test_locations(subject):
    """One object at a time is moved, across in its row and down in its column."""
    figure, caption = figures.locations(subject, subject.few, 3)
    panels, shown = _panels(figure, 2 + figures.NUM_PLACES)
    scene = editing.take(subject.few.scene, 1)
    yx = np.asarray(scene.yx)[0]
    columns = np.linspace(2, 8, 7).round().astype(int)
    rows = np.linspace(2, 11, 7).round().astype(int)
    (original,) = subject.render(scene)
    assert "image 1 of `test`" in caption and len(shown) == 6
    np.testing.assert_array_equal(shown[0][0], subject.few.images[1] / 255)
    for line in range(6):
        slot, down = divmod(line, 2)
        _assert_shows(shown[line][1], original)
        assert line == 0 or shown[line][0] is None
        for place in range(7):
            to = (rows[place], yx[slot, 1]) if down else (yx[slot, 0], columns[place])
            moved = editing.move(scene, slot, to, SHAPE)
            (expected,) = subject.render(moved)
            _assert_shows(shown[line][2 + place], expected)
        (frame,) = panels[line, 1].patches
        y, x = yx[slot]
        assert frame.get_bbox().bounds == (x - 2.5, y - 2.5, 5, 5)
    assert [panel.get_title() for panel in panels[0][2:]] == [str(x) for x in columns]


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
    nothing = _images("test", [0, 0]).scene
    assert measure_effects(subject, nothing).tolist() == [0, 0, 0, 0]
