"""Figures show the arrays they were given, in the right panels."""

import itertools

import numpy as np
import pytest
from matplotlib.image import imread

from lavae_jax import plotting
from lavae_jax.types import Scene
from tests import figure_texts


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
        lit = {tuple(site) for site in scene.yx[row][scene.active[row]]}
        assert set(zip(*np.nonzero(_shown(panels[row, 2])), strict=True)) == lit
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
    titles = [panel.get_title() for panel in panels[0]]
    assert titles[:4] == ["input", "reconstruction", "locations", "object 1"]


@pytest.mark.parametrize("channels", [1, 3])
def test_comparison_shows_each_image_beside_its_means(channels):
    """Panels show images beside their means; other numbers of them are refused."""
    rng = np.random.default_rng(channels)
    images = (rng.integers(0, 2, (3, 8, 6, channels)) * 255).astype(np.uint8)
    means = rng.uniform(size=(3, 8, 6, channels)).astype(np.float32)
    panels = np.array(plotting.comparison(images, means).axes).reshape(3, 2)
    titles = [panel.get_title() for panel in panels[0]]
    assert titles == ["input", "reconstruction"]
    for row, expected in enumerate(zip(images / 255, means, strict=True)):
        for panel, image in zip(panels[row], expected, strict=True):
            image = image[..., 0] if channels == 1 else image
            np.testing.assert_array_equal(_shown(panel), image)
    with pytest.raises(ValueError, match="got 3 images and 2 reconstructions"):
        plotting.comparison(images, means[:2])
    with pytest.raises(ValueError, match="at least one: got 0 images"):
        plotting.comparison(images[:0], means[:0])


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


def test_grid_refuses_what_does_not_fit():
    """A grid without images, or with another number of labels, is refused."""
    image = np.zeros((4, 4, 1))
    with pytest.raises(ValueError, match="at least one image"):
        plotting.grid([[], []])
    with pytest.raises(ValueError, match="1 rows need as many labels: got 2"):
        plotting.grid([[image]], row_labels=["a", "b"])
    with pytest.raises(ValueError, match="2 columns need as many labels: got 1"):
        plotting.grid([[image], [image, image]], column_labels=["a"])


def test_grids_beside_each_other():
    """Each grid shows its own images under its own title; none may be empty."""
    rng = np.random.default_rng(6)
    ours, theirs = rng.uniform(size=(3, 4, 6, 3)), rng.uniform(size=(2, 4, 6, 3))
    figure = plotting.beside({"ours": ours, "theirs": theirs}, columns=2)
    left, right = figure.subfigs
    assert [part.get_suptitle() for part in (left, right)] == ["ours", "theirs"]
    for part, images in ((left, ours), (right, theirs)):
        assert len(part.axes) == 4
        for panel, image in zip(part.axes, images, strict=False):
            np.testing.assert_array_equal(_shown(panel), image)
        assert all(_shown(panel) is None for panel in part.axes[len(images) :])
    with pytest.raises(ValueError, match="at least one image"):
        plotting.beside({"ours": ours, "theirs": theirs[:0]})


@pytest.mark.parametrize("columns", [1, 4, 11])
def test_texts_are_whole_and_apart(columns):
    """No text is cut off or lies over another or a panel, however long the title."""
    title = "A figure that has much to say of what it shows, and where it is from, " * 3
    figure = plotting.grid(
        np.zeros((2, columns, 8, 8, 1)),
        title=title,
        row_labels=["reconstruction", "dimension 20\n(0.063)"],
        column_labels=["reconstruction"] * columns,
    )
    assert " ".join(figure.get_suptitle().split()) == title.strip()
    boxes = figure_texts.boxes(figure)
    assert len(boxes) == 3 + columns
    boxes += [panel.get_window_extent() for panel in figure.axes]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-1).overlaps(other.padded(-1))


def test_pixels_are_squares_of_one_size(tmp_path):
    """Every pixel of a 64-pixel image is 2 x 2 dots, whatever texts are around it."""
    image = np.indices((64, 64)).sum(axis=0)[..., None] % 2
    for name, options in (
        ("plain", {}),
        ("texts", {"title": "A title", "row_labels": ["row"]}),
    ):
        path = tmp_path / f"{name}.png"
        plotting.save(plotting.grid([[image]], **options), path)
        picture = imread(path)[..., 0]
        # Away from the frame, which lies over the first and last pixels.
        board = np.kron(image[4:60, 4:60, 0], np.ones((2, 2)))
        windows = np.lib.stride_tricks.sliding_window_view(picture, board.shape)
        assert (windows == board).all(axis=(2, 3)).any()


def test_location_markers_sit_on_their_pixels():
    """Markers are drawn at x = column, y = row."""
    scene = _scene(np.random.default_rng(2), (2,), (8, 6))
    blank, sprites = np.zeros((1, 8, 6, 1)), np.zeros((1, 4, 5, 5, 1))
    panel = plotting.reconstructions(blank, blank, scene, sprites).axes[2]
    np.testing.assert_array_equal(
        panel.collections[0].get_offsets(), scene.yx[0][scene.active[0]][:, ::-1]
    )


def test_reconstructions_without_any_object():
    """Empty scenes leave the three panels every row has."""
    scene = _scene(np.random.default_rng(3), (0, 0), (8, 8))
    blank, sprites = np.zeros((2, 8, 8, 1)), np.zeros((2, 4, 5, 5, 1))
    assert len(plotting.reconstructions(blank, blank, scene, sprites).axes) == 6


def test_reconstructions_refuses_arrays_of_different_images():
    """Every count that does not fit is in the message, as is an empty batch."""
    scene = _scene(np.random.default_rng(4), (1, 1), (8, 8))
    images, sprites = np.zeros((3, 8, 8, 1)), np.zeros((2, 4, 5, 5, 1))
    with pytest.raises(ValueError, match="3 images, 2 reconstructions, 2 scenes"):
        plotting.reconstructions(images, images[:2], scene, sprites)
    empty = Scene(*(value[:0] for value in scene))
    with pytest.raises(ValueError, match="at least one"):
        plotting.reconstructions(images[:0], images[:0], empty, sprites[:0])


def test_samples_grid_keeps_the_order():
    """Images run row by row and panels left over are blank."""
    images = np.random.default_rng(5).uniform(size=(5, 4, 6, 3))
    panels = plotting.samples_grid(images, columns=2).axes
    assert len(panels) == 6
    for image, panel in zip(images, panels[:5], strict=True):
        np.testing.assert_array_equal(_shown(panel), image)
    assert _shown(panels[5]) is None and not panels[5].axison


@pytest.mark.parametrize("white", [np.uint8(1), np.uint8(255), np.float32(1)])
def test_images_of_every_accepted_kind_look_the_same(white):
    """0/1 and 0/255, integer and float, all become full black and white."""
    image = np.zeros((1, 4, 6, 3), white.dtype)
    image[0, 1:3, 2] = white
    (panel,) = plotting.samples_grid(image).axes
    np.testing.assert_array_equal(_shown(panel), image[0] / float(white))


def test_samples_grid_is_about_square_and_never_empty():
    """Seven images make a 3 x 3 grid, none are refused."""
    assert len(plotting.samples_grid(np.zeros((7, 4, 4, 1))).axes) == 9
    with pytest.raises(ValueError, match="at least one image"):
        plotting.samples_grid(np.zeros((0, 4, 4, 1)))


def test_confusion_writes_counts_in_their_cells():
    """True counts run down, inferred ones across; shades are shares of a row."""
    figure = plotting.confusion(np.array([[4, 0, 0], [0, 3, 1], [0, 0, 0]]))
    panel = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in panel.texts}
    assert texts == {(0, 0): "4", (1, 1): "3", (2, 1): "1"}
    np.testing.assert_allclose(_shown(panel), [[1, 0, 0], [0, 0.75, 0.25], [0, 0, 0]])
    assert panel.get_ylabel() == "true number of objects"


def test_save_writes_a_small_png_and_nothing_else(tmp_path):
    """The file is a readable picture of pure pixels; a second save replaces it."""
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0, 10:30, 20:50] = (255, 0, 255)
    path = tmp_path / "new" / "picture.png"
    for _ in range(2):
        plotting.save(plotting.samples_grid(image), path)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]
    assert path.stat().st_size < 20_000
    picture = imread(path)
    magenta = (picture[..., :3] == (1, 0, 1)).all(axis=-1)
    assert magenta.sum() == pytest.approx(4 * 20 * 30, rel=0.05)


def test_save_refuses_other_formats(tmp_path):
    """The name says PNG or nothing is written."""
    with pytest.raises(ValueError, match=r"must end in \.png"):
        plotting.save(plotting.samples_grid(np.zeros((1, 4, 4, 1))), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_figures_leave_pyplot_alone():
    """No figure is registered globally, so long runs do not pile them up."""
    import matplotlib.pyplot as plt

    plotting.samples_grid(np.zeros((1, 4, 4, 1)))
    plotting.confusion(np.eye(3, dtype=int))
    assert plt.get_fignums() == []
