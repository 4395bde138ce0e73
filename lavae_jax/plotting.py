"""Draws pictures of scenes, samples and counts.

Figures are plain `matplotlib.figure.Figure` objects, without pyplot and its global
state, so that they can be drawn in a training loop, a thread or a notebook, which shows
them by itself.
"""

import math
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Rectangle

from lavae_jax.types import Scene

_DPI = 128  # a 64-pixel image fills a one-inch panel with 2 x 2 dots per pixel
_GAP = 0.08
_LINE = 0.17
_LABEL = 0.95
_LETTERS = 14  # letters of a title per inch


def reconstructions(
    images: np.ndarray,
    means: np.ndarray,
    scene: Scene,
    sprites: np.ndarray,
    *,
    title: str = "",
    row_labels: Sequence[str] = (),
) -> Figure:
    """Draws what the model infers in each image, as in the paper's Figures 1 and 5.

    Each image has a row: the input, its reconstruction, the inferred locations (white
    squares of 3 × 3 pixels on black) and the sprite of each object.

    Args:
        images: [B, H, W, C] inputs, uint8 (0/255 or 0/1) or in [0, 1]; C is 1 or 3.
        means: [B, H, W, C] pixel means of the reconstruction, in [0, 1].
        scene: the inferred `Scene` of these images.
        sprites: [B, M, S, S, C] sprites, in [0, 1].
        title: title of the whole figure.
        row_labels: B texts, or none.

    Returns:
        A figure with B rows of 3 + (largest n of these scenes) panels.

    Raises:
        ValueError: if there are no images, or the arguments differ in their number.
    """
    images, means, sprites = np.asarray(images), np.asarray(means), np.asarray(sprites)
    active, yx = np.asarray(scene.active), np.asarray(scene.yx)
    sizes = {len(images), len(means), len(yx), len(active), len(sprites)}
    if len(sizes) > 1 or not len(images):
        raise ValueError(
            f"a picture needs the same images everywhere, at least one: got"
            f" {len(images)} images, {len(means)} reconstructions, {len(yx)} scenes"
            f" and the sprites of {len(sprites)}."
        )
    maps = location_maps(yx, active, images.shape[1:3])
    rows = [
        [*parts, *painted[used]]
        for *parts, painted, used in zip(
            images, means, maps, sprites, active, strict=True
        )
    ]
    titles = ["input", "reconstruction", "locations"]
    titles += [f"object {i + 1}" for i in range(active.sum(axis=1).max())]
    return grid(rows, title=title, row_labels=row_labels, column_labels=titles)


def location_maps(
    yx: np.ndarray, active: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Marks rows and columns [B, M, 2] in active slots [B, M] by white squares.

    The result is [B, H, W, 1] for a size (H, W), in [0, 1].
    """
    maps = np.zeros((len(yx), *size, 1), np.float32)
    for image, slot in np.argwhere(active):
        y, x = yx[image, slot]
        # One pixel is hard to see.
        maps[image, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = 1
    return maps


def grid(
    images: Sequence[Sequence[np.ndarray | None]] | np.ndarray,
    *,
    title: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    frames: Sequence[tuple[int, int, int, int, int]] = (),
) -> Figure:
    """Draws images in rows and columns with labels, as in Figures 3 and 6 to 8.

    Args:
        images: [R, C, H, W, channels], or R rows of at most C images, None for a gap;
            uint8 (0/255 or 0/1) or in [0, 1].
        title: title of the whole figure.
        row_labels: R texts, or none.
        column_labels: C texts, or none.
        frames: squares to point out: the row and column of an image, then in it the row
            and column of the square's centre and its side, in pixels.

    Returns:
        A figure of R rows of C panels; gaps are blank.

    Raises:
        ValueError: if there is no image, or not one label per row or column.
    """
    num_columns = max(map(len, images), default=0)
    if not num_columns:
        raise ValueError("a grid needs at least one image: got none.")
    texts = _Texts(title, row_labels, column_labels)
    figure, panels = _panels(len(images), num_columns, texts)
    for row, shown in enumerate(images):
        for column, image in enumerate(shown):
            if image is not None:
                _show(panels[row, column], np.asarray(image))
    for row, column, y, x, side in frames:
        corner = (x - side / 2, y - side / 2)
        panels[row, column].add_patch(
            Rectangle(corner, side, side, fill=False, color="tab:orange", linewidth=1)
        )
    return figure


def samples_grid(images: np.ndarray, columns: int | None = None) -> Figure:
    """Draws a grid of images, row by row, as in the paper's Figures 2 and 4.

    Images are [B, H, W, C], uint8 (0/255 or 0/1) or in [0, 1], and C is 1 or 3. By
    default the grid is about square; panels left over are blank. Without images a
    ValueError is raised.
    """
    return beside({"": images}, columns)


def beside(grids: Mapping[str, np.ndarray], columns: int | None = None) -> Figure:
    """Draws grids of images side by side, each under its title, as in Figure 4.

    Each grid has the images that `samples_grid` takes.
    """
    grids = {title: np.asarray(images) for title, images in grids.items()}
    if not all(map(len, grids.values())):
        raise ValueError("a grid needs at least one image: got none.")
    most = max(map(len, grids.values()))
    columns = columns or math.ceil(math.sqrt(most))
    rows = math.ceil(most / columns)
    sizes = [_size(rows, columns, _Texts(title)) for title in grids]
    figure = Figure(
        figsize=(sum(width for width, _ in sizes), max(height for _, height in sizes)),
        dpi=_DPI,
    )
    parts = figure.subfigures(1, len(grids), squeeze=False)[0]
    for part, (title, images) in zip(parts, grids.items(), strict=True):
        panels = _add_panels(part, rows, columns, _Texts(title))
        for panel, image in zip(panels.flat, images, strict=False):
            _show(panel, image)
    return figure


def confusion(matrix: np.ndarray, *, title: str = "") -> Figure:
    """Draws a confusion matrix of counts, shaded by the share of each true count.

    The matrix is that of `metrics.count_confusion`. Non-zero cells carry their number.
    """
    matrix = np.asarray(matrix)
    figure = Figure(figsize=(4.5, 4.5), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    for row, column in np.argwhere(matrix):
        colour = "white" if shares[row, column] > 0.5 else "black"
        style = dict(ha="center", va="center", fontsize=7, color=colour)
        axes.text(column, row, str(matrix[row, column]), **style)
    axes.set(xlabel="inferred number of objects", ylabel="true number of objects")
    axes.set(xticks=range(len(matrix)), yticks=range(len(matrix)))
    axes.set_title(title, fontsize=10)
    return figure


def save(figure: Figure, path: str | pathlib.Path) -> None:
    """Writes a figure in the format of the file's name, such as PNG; makes its folder.

    A reader never sees half a picture: the file appears under its name once complete.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished.{path.name}")
    figure.savefig(unfinished)
    unfinished.replace(path)


class _Texts(NamedTuple):
    """The title of a figure and the labels of its rows and columns, if it has any."""

    title: str = ""
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()


def _panels(rows: int, columns: int, texts: _Texts) -> tuple[Figure, np.ndarray]:
    """Makes a figure of [rows, columns] blank one-inch panels, with its texts."""
    figure = Figure(figsize=_size(rows, columns, texts), dpi=_DPI)
    return figure, _add_panels(figure, rows, columns, texts)


def _size(rows: int, columns: int, texts: _Texts) -> tuple[float, float]:
    """Computes width and height in inches of panels with their texts."""
    width = columns + (columns - 1) * _GAP + _left(texts) + _GAP
    top = _GAP
    if len(texts.column_labels):
        top += _LINE
    if texts.title:
        top += _GAP + len(_lines(texts.title, width)) * _LINE
    return width, rows + (rows - 1) * _GAP + _GAP + top


def _left(texts):
    return _LABEL if len(texts.row_labels) else _GAP


def _lines(title, width):
    """Breaks a title into lines so short that none is cut off."""
    letters = int(width * _LETTERS)
    return [
        part for line in title.splitlines() for part in textwrap.wrap(line, letters)
    ]


def _add_panels(
    figure: FigureBase, rows: int, columns: int, texts: _Texts
) -> np.ndarray:
    """Adds [rows, columns] blank panels to a figure of that size, with its texts.

    Raises:
        ValueError: if there are labels, but not one for each row or column.
    """
    numbers = len(texts.row_labels), len(texts.column_labels)
    if numbers[0] not in (0, rows) or numbers[1] not in (0, columns):
        raise ValueError(
            f"{rows} rows and {columns} columns need as many labels, or none: got"
            f" {numbers[0]} and {numbers[1]}."
        )
    width, height = _size(rows, columns, texts)
    highest = _GAP + rows + (rows - 1) * _GAP
    panels = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": _left(texts) / width,
            "right": 1 - _GAP / width,
            "bottom": _GAP / height,
            "top": highest / height,
            "wspace": _GAP,
            "hspace": _GAP,
        },
    )
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, label in zip(panels[0], texts.column_labels, strict=False):
        panel.set_title(label, fontsize=8, pad=3)
    for panel, label in zip(panels[:, 0], texts.row_labels, strict=False):
        beside = dict(ha="right", va="center", transform=panel.transAxes)
        panel.text(-0.05, 0.5, label, fontsize=8, **beside)
    if texts.title:
        top_left = dict(x=_GAP / width, y=1 - _GAP / height, ha="left", va="top")
        figure.suptitle("\n".join(_lines(texts.title, width)), fontsize=9, **top_left)
    return panels


def _show(panel: Axes, image: np.ndarray) -> None:
    """Draws an image [H, W, C], uint8 or in [0, 1], unblurred in a thin frame."""
    panel.set_axis_on()
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(color="0.6", linewidth=0.5)
    # matplotlib reads colours of dtype uint8 as 0..255, even where all are 0 or 1.
    image = image / (255 if image.dtype == np.uint8 and image.max() > 1 else 1)
    image = image[..., 0] if image.shape[-1] == 1 else np.clip(image, 0, 1)
    panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
