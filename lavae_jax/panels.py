"""Lays out figures of one-inch panels that show images, with titles and labels."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

DPI = 128
"""A 64-pixel image fills a one-inch panel with exactly 2 x 2 dots per pixel."""

_GAP = 0.08
_LINE = 0.17
_LABEL = 0.95
_LETTERS = 14  # letters of a title per inch


class Texts(NamedTuple):
    """The title of a figure and the labels of its rows and columns, if it has any."""

    title: str = ""
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()


def panels(rows: int, columns: int, texts: Texts) -> tuple[Figure, np.ndarray]:
    """Makes a figure of [rows, columns] blank one-inch panels, with its texts."""
    figure = Figure(figsize=size(rows, columns, texts), dpi=DPI)
    return figure, add_panels(figure, rows, columns, texts)


def size(rows: int, columns: int, texts: Texts) -> tuple[float, float]:
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


def add_panels(figure: FigureBase, rows: int, columns: int, texts: Texts) -> np.ndarray:
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
    width, height = size(rows, columns, texts)
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


def show(panel: Axes, image: np.ndarray) -> None:
    """Draws an image [H, W, C], uint8 or in [0, 1], unblurred in a thin frame."""
    panel.set_axis_on()
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(color="0.6", linewidth=0.5)
    # matplotlib reads colours of dtype uint8 as 0..255, even where all are 0 or 1.
    image = image / (255 if image.dtype == np.uint8 and image.max() > 1 else 1)
    image = image[..., 0] if image.shape[-1] == 1 else np.clip(image, 0, 1)
    panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
