"""Figures show the arrays they were given, in the right panels."""

import numpy as np
import pytest
import scipy.ndimage

from lavae_jax import plotting
from lavae_jax.types import Scene


def _scene(rng, counts, size, max_objects=4):
    """Makes scenes whose active slots are not the first ones."""
    active = np.zeros((len(counts), max_objects), bool)
    for row, n in enumerate(counts):
        active[row, rng.permutation(max_objects)[:n]] = True
    yx = rng.integers(0, size, (len(counts), max_objects, 2))
    z_app = rng.normal(size=(len(counts), max_objects, 2)).astype(np.float32)
    return Scene(n=np.array(counts), yx=yx, z_app=z_app, active=active)


def _shown(panel):
    """Returns the array a panel shows, or None for a blank one."""
    return np.asarray(panel.images[0].get_array()) if panel.images else None


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_shows_each_array_in_its_panel(channels):
    """Panels show input, means, sites and sprites of active slots, row by row."""
    rng = np.random.default_rng(channels)
    scene = _scene(rng, (2, 0, 3), (8, 6))
    images = (rng.integers(0, 2, (3, 8, 6, channels)) * 255).astype(np.uint8)
    means = rng.uniform(size=(3, 8, 6, channels)).astype(np.float32)
    sprites = rng.uniform(size=(3, 4, 5, 5, channels)).astype(np.float32)
    figure = plotting.reconstructions(
        images, means, scene, sprites, title="Scenes", row_labels="abc"
    )
    panels = np.array(figure.axes).reshape(3, 6)
    assert figure.get_suptitle() == "Scenes"
    assert [panel.texts[0].get_text() for panel in panels[:, 0]] == ["a", "b", "c"]

    def expected(image):
        return image[..., 0] if channels == 1 else image

    for row in range(3):
        np.testing.assert_array_equal(
            _shown(panels[row, 0]), expected(images[row] / 255)
        )
        np.testing.assert_array_equal(_shown(panels[row, 1]), expected(means[row]))
        sites = np.zeros((8, 6), bool)
        sites[tuple(scene.yx[row][scene.active[row]].T)] = True
        squares = scipy.ndimage.binary_dilation(sites, np.ones((3, 3)))
        np.testing.assert_array_equal(_shown(panels[row, 2]), squares)
        found = sprites[row][scene.active[row]]
        for column in range(3):
            shown = _shown(panels[row, 3 + column])
            if column < len(found):
                np.testing.assert_array_equal(shown, expected(found[column]))
            else:
                assert shown is None
    pictures = [picture for panel in figure.axes for picture in panel.images]
    assert {picture.get_interpolation() for picture in pictures} == {"nearest"}
    assert {picture.get_clim() for picture in pictures} == {(0, 1)}


def test_grid_shows_rows_and_columns_with_their_labels():
    """Every image and text is in its place, and gaps are blank.

    The frame goes around the centre it is given.
    """
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(2, 3, 8, 6, 3))
    rows = [list(images[0]), [images[1, 0], None]]
    figure = plotting.grid(
        rows,
        title="One\nand two",
        row_labels=["first", "second"],
        column_labels=["a", "b", "c"],
        frames=[(1, 0, 2, 4, 3)],
    )
    panels = np.array(figure.axes).reshape(2, 3)
    for column in range(3):
        np.testing.assert_array_equal(_shown(panels[0, column]), images[0, column])
    np.testing.assert_array_equal(_shown(panels[1, 0]), images[1, 0])
    assert _shown(panels[1, 1]) is None and _shown(panels[1, 2]) is None
    assert [panel.get_title() for panel in panels[0]] == ["a", "b", "c"]
    assert [panel.texts[0].get_text() for panel in panels[:, 0]] == ["first", "second"]
    assert figure.get_suptitle() == "One\nand two"
    (frame,) = panels[1, 0].patches
    assert frame.get_bbox().bounds == (2.5, 0.5, 3, 3)
    assert not frame.get_fill() and not panels[0, 0].patches
