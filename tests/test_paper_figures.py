"""The figures of the paper show the scenes that they say, edited as they say."""

import numpy as np
import pytest

from experiments.paper import figures
from experiments.paper.subject import measure_effects
from lavae_jax import editing
from lavae_jax.types import Scene
from tests import tiny_subjects

pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module")
def subject():
    """Makes images: 1 and, of 7 objects, 0 are the first that are counted right."""
    return tiny_subjects.subject(
        tiny_subjects.images("test", [3, 3, 0, 2, 3], [2, 3, 0, 2, 3]),
        tiny_subjects.images("test_7", [7, 7], seed=1),
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
    (original,) = tiny_subjects.rendered(subject, scene)
    assert "image 1 of `test`" in caption and len(shown) == 6
    np.testing.assert_array_equal(shown[0][0], subject.few.images[1] / 255)
    for line in range(6):
        slot, down = divmod(line, 2)
        _assert_shows(shown[line][1], original)
        assert line == 0 or shown[line][0] is None
        for place in range(7):
            to = (rows[place], yx[slot, 1]) if down else (yx[slot, 0], columns[place])
            moved = editing.move(scene, slot, to, tiny_subjects.SHAPE)
            (expected,) = tiny_subjects.rendered(subject, moved)
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
    nothing = tiny_subjects.images("test", [0, 0]).scene
    assert measure_effects(subject, nothing).tolist() == [0, 0, 0, 0]


def test_swaps(subject):
    """Images counted right are shown swapped in both ways, and with z_loc reversed."""
    figure, _ = figures.swaps(subject, subject.few, 3)
    panels, shown = _panels(figure, 2)
    assert [panel.get_title() for panel in panels[0]] == ["image 1", "image 4"]
    for column, image in enumerate((1, 4)):
        scene = editing.take(subject.few.scene, image)
        yx = np.asarray(scene.yx)
        swapped = scene._replace(yx=yx[:, [1, 0, 2, *range(3, 8)]])
        backwards = scene._replace(yx=yx[:, [2, 1, 0, *range(3, 8)]])
        np.testing.assert_array_equal(shown[0][column], subject.few.images[image] / 255)
        for line, one in enumerate((scene, swapped, swapped, backwards), start=1):
            (expected,) = tiny_subjects.rendered(subject, one)
            _assert_shows(shown[line][column], expected)
        assert len(panels[1, column].patches) == 2
