"""Pictures of scenes, samples and counts.

Figures are plain `matplotlib.figure.Figure` objects, without pyplot and its global
state, so that they can be drawn from a training loop, a thread or a notebook (where
they show themselves).
"""

import math
import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lavae_jax.types import Scene

# A 64-pixel image fills a one-inch panel with exactly 2 x 2 dots per pixel.
_DPI = 128
_GAP = 0.08
_MARGIN = 0.3


def reconstructions(
    images: np.ndarray, means: np.ndarray, scene: Scene, sprites: np.ndarray
) -> Figure:
    """What the model sees in each image, as in the paper's Figures 1 and 5.

    One row per image: the input, its reconstruction, the inferred locations (white on
    a black canvas) and the sprite of each object.

    Args:
      images: [B, H, W, C] inputs, uint8 (0/255 or 0/1) or in [0, 1]; C is 1 or 3.
      means: [B, H, W, C] pixel means of the reconstruction, in [0, 1].
      scene: The inferred `Scene` of these images.
      sprites: [B, M, S, S, C] sprites, in [0, 1].

    Returns:
      A figure with B rows of 3 + (largest n of these scenes) panels.

    Raises:
      ValueError: If there are no images, or they and the rest differ in number.

    >>> import jax
    >>> import lavae_jax
    >>> from lavae_jax import plotting
    >>> model, variables = lavae_jax.load_pretrained("multi_dsprites")
    >>> images = lavae_jax.generate(model, variables, jax.random.key(1), 3) > 0.5
    >>> scene = lavae_jax.infer(model, variables, images)
    >>> figure = plotting.reconstructions(
    ...     images,
    ...     lavae_jax.render(model, variables, scene),
    ...     scene,
    ...     lavae_jax.sprites(model, variables, scene),
    ... )
    >>> [panel.get_title() for panel in figure.axes[:4]]
    ['input', 'reconstruction', 'locations', 'object 1']
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
    num_objects = int(active.sum(axis=1).max())
    titles = ["input", "reconstruction", "locations"]
    titles += [f"object {i + 1}" for i in range(num_objects)]
    figure, panels = _panels(len(images), len(titles))
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=8, pad=3)
    for row in range(len(images)):
        sites = yx[row][active[row]]
        _show(panels[row, 0], images[row])
        _show(panels[row, 1], means[row])
        _show(panels[row, 2], _location_map(sites, images.shape[1:3]))
        # One pixel is hard to see; the marker keeps its place and adds size.
        panels[row, 2].scatter(sites[:, 1], sites[:, 0], s=5, c="white", marker="s")
        for column, sprite in enumerate(sprites[row][active[row]], start=3):
            _show(panels[row, column], sprite)
    return figure


def comparison(images: np.ndarray, means: np.ndarray) -> Figure:
    """Images and their reconstructions by a model without objects, one row each.

    Args:
      images: [B, H, W, C] inputs, uint8 (0/255 or 0/1) or in [0, 1]; C is 1 or 3.
      means: [B, H, W, C] pixel means of the reconstruction, in [0, 1].

    Returns:
      A figure with B rows of 2 panels.

    Raises:
      ValueError: If there are no images, or they differ in number.

    >>> import numpy as np
    >>> from lavae_jax import plotting
    >>> images = np.zeros((3, 64, 64, 1))
    >>> len(plotting.comparison(images, images + 0.1).axes)
    6
    """
    images, means = np.asarray(images), np.asarray(means)
    if len(images) != len(means) or not len(images):
        raise ValueError(
            f"a picture needs the same images twice, at least one: got {len(images)}"
            f" images and {len(means)} reconstructions."
        )
    figure, panels = _panels(len(images), 2)
    for column, (title, shown) in enumerate(
        [("input", images), ("reconstruction", means)]
    ):
        panels[0, column].set_title(title, fontsize=8, pad=3)
        for row, image in enumerate(shown):
            _show(panels[row, column], image)
    return figure


def samples_grid(images: np.ndarray, columns: int | None = None) -> Figure:
    """A grid of images, row by row, as in the paper's Figures 2 and 4.

    Args:
      images: [B, H, W, C] uint8 (0/255 or 0/1) or in [0, 1]; C is 1 or 3.
      columns: Number of columns; by default the grid is about square.

    Returns:
      A figure with at least B panels; those left over are blank.

    Raises:
      ValueError: If there are no images.

    >>> import numpy as np
    >>> from lavae_jax import plotting
    >>> figure = plotting.samples_grid(np.zeros((8, 64, 64, 3)), columns=4)
    >>> len(figure.axes)
    8
    """
    images = np.asarray(images)
    if not len(images):
        raise ValueError("a grid needs at least one image: got none.")
    columns = columns or math.ceil(math.sqrt(len(images)))
    figure, panels = _panels(math.ceil(len(images) / columns), columns)
    for index, image in enumerate(images):
        _show(panels.flat[index], image)
    return figure


def confusion(matrix: np.ndarray) -> Figure:
    """A confusion matrix of counts, shaded by the share within each true count.

    Args:
      matrix: [M+1, M+1] numbers of images, true counts in rows.

    Returns:
      A figure with one panel; every non-zero cell carries its number.

    >>> from lavae_jax import metrics, plotting
    >>> matrix = metrics.count_confusion([0, 1, 2, 2], [0, 1, 2, 1], max_objects=2)
    >>> figure = plotting.confusion(matrix)
    >>> sorted(text.get_text() for text in figure.axes[0].texts)
    ['1', '1', '1', '1']
    """
    matrix = np.asarray(matrix)
    figure = Figure(figsize=(4.5, 4.5), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    for row, column in np.argwhere(matrix):
        axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if shares[row, column] > 0.5 else "black",
        )
    axes.set(xlabel="inferred number of objects", ylabel="true number of objects")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=len(matrix)))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=len(matrix)))
    return figure


def save(figure: Figure, path: str | pathlib.Path) -> None:
    """Writes a figure as PNG, creating its folder.

    A reader never sees half a picture: the file appears under its name once complete.

    Args:
      figure: Any figure.
      path: Where to write, ending in `.png`.

    Raises:
      ValueError: If the name does not end in `.png`.

    >>> import numpy as np
    >>> from lavae_jax import plotting
    >>> plotting.save(plotting.samples_grid(np.eye(8)[None, ..., None]), "eye.png")
    """
    path = pathlib.Path(path)
    if path.suffix != ".png":
        raise ValueError(f"pictures are written as PNG: {path} must end in .png.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    figure.savefig(unfinished, format="png")
    unfinished.replace(path)


def _panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure of [rows, columns] blank one-inch panels with room for titles."""
    width = columns + (columns - 1) * _GAP + 2 * _GAP
    height = rows + (rows - 1) * _GAP + _GAP + _MARGIN
    figure = Figure(figsize=(width, height), dpi=_DPI)
    panels = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": _GAP / width,
            "right": 1 - _GAP / width,
            "bottom": _GAP / height,
            "top": 1 - _MARGIN / height,
            "wspace": _GAP,
            "hspace": _GAP,
        },
    )
    for panel in panels.flat:
        panel.set_axis_off()
    return figure, panels


def _show(panel: Axes, image: np.ndarray) -> None:
    """Draws an [H, W, C] image unblurred in a thin frame."""
    # matplotlib reads colours of dtype uint8 as 0..255, even where all are 0 or 1.
    image = image / (255 if image.dtype == np.uint8 and image.max() > 1 else 1)
    panel.set_axis_on()
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(color="0.6", linewidth=0.5)
    panel.imshow(
        image[..., 0] if image.shape[-1] == 1 else np.clip(image, 0, 1),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )


def _location_map(sites: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 1] canvas, black but for white pixels at the [n, 2] sites."""
    canvas = np.zeros((*size, 1), np.float32)
    canvas[sites[:, 0], sites[:, 1]] = 1
    return canvas
