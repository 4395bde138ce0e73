"""Draws the paper's figures of edited scenes: places, appearances, swaps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.paper import batched
from experiments.paper import subject as paper_subject
from experiments.paper.subject import HIGH, LOW, Images, Subject
from lavae_jax import editing, plotting
from lavae_jax.types import Scene

NUM_PLACES = 7
VALUES = np.linspace(LOW, HIGH, 9)
NUM_DIMS = 6


class NothingToShowError(Exception):
    """Raised, with the reason, for a figure that has to be left out."""


def locations(subject: Subject, shown: Images, n: int) -> tuple[Figure, str]:
    """Draws Figures 3, 7, 8 and 11: each of three objects moved across and down.

    Args:
        subject: The data set with its model.
        shown: Images of the data set.
        n: How many objects the edited image must have.

    Returns:
        The figure and its caption.

    Raises:
        NothingToShowError: If no image with n objects is counted right.
    """
    image, scene = _first(shown, n)
    shape, yx = subject.model.image_shape, np.asarray(scene.yx)[0]
    margin = subject.model.sprite_size // 2
    slots = range(min(3, n))

    def across(scene, slot, x):
        return editing.move(scene, slot, (yx[slot, 0], x), shape)

    def down(scene, slot, y):
        return editing.move(scene, slot, (y, yx[slot, 1]), shape)

    places = [
        np.linspace(margin, size - 1 - margin, NUM_PLACES).round().astype(int)
        for size in (shape[1], shape[0])
    ]
    grids = [
        _render(subject, editing.traverse(scene, edit, slots, values), len(slots))
        for edit, values in zip((across, down), places, strict=True)
    ]
    figure = _beside_original(
        subject,
        shown,
        image,
        scene,
        rows=np.stack(grids, axis=1).reshape(-1, *grids[0].shape[1:]),
        slots=np.repeat(slots, 2),
        what="in each row the framed object alone is moved, to the column (across) or"
        " the row (down) above, in pixels",
        row_labels=[
            f"object {slot + 1},\n{way}" for slot in slots for way in ("across", "down")
        ],
        column_labels=[str(place) for place in places[0]],
    )
    return figure, (
        f"Location traversal on image {image} of `{shown.split}`: in each row the"
        " location of the framed object alone is changed, to the column (across) or row"
        " (down) given above, in pixels."
    )


def appearances(subject: Subject, shown: Images, n: int) -> tuple[Figure, str]:
    """Draws Figures 3, 7, 8 and 11: single dimensions of one object's appearance.

    Arguments, result and errors are those of `locations`.
    """
    image, scene = _first(shown, n)
    effects = paper_subject.effects(subject, scene)
    dims = _largest(effects)[:NUM_DIMS]

    def edit(scene, dim, value):
        return editing.restyle(scene, 0, dim, value)

    figure = _beside_original(
        subject,
        shown,
        image,
        scene,
        rows=_render(subject, editing.traverse(scene, edit, dims, VALUES), len(dims)),
        slots=[0] * len(dims),
        what="in each row one dimension of the appearance of the framed object is set"
        f" to the values above: the {len(dims)} of {len(effects)} dimensions that"
        " change its sprite most (in brackets: the mean change of its pixels)",
        row_labels=[f"dimension {d}\n({effects[d]:.3f})" for d in dims],
        column_labels=[_signed(value) for value in VALUES],
    )
    return figure, (
        f"Appearance traversal on image {image} of `{shown.split}`: in each row one"
        " dimension of the appearance of the framed object is set to the values above."
        f" Of all {len(effects)} dimensions these change its sprite most: in brackets,"
        f" the mean change of its pixels over values from {_signed(LOW)} to"
        f" {_signed(HIGH)}."
    )


def swaps(subject: Subject, shown: Images, n: int) -> tuple[Figure, str]:
    """Draws Figures 3, 6 and 11: one of the two sequences reordered, in four images.

    Arguments, result and errors are those of `locations`.
    """
    images = _right(shown, n)[:4]
    scene = editing.take(shown.scene, images)
    backwards = scene
    for slot in range(n // 2):
        backwards = editing.swap(backwards, slot, n - 1 - slot, "location")
    scenes = {
        "reconstruction": scene,
        "swapped\nin z_loc": editing.swap(scene, 0, 1, "location"),
        "swapped\nin z_app": editing.swap(scene, 0, 1, "appearance"),
        "z_loc\nreversed": backwards,
    }
    model, variables = subject.model, subject.variables
    rendered = [batched.render(model, variables, one) for one in scenes.values()]
    figure = plotting.grid(
        [shown.images[images], *rendered],
        title=f"{subject.title}, images of {shown.split}: the two framed objects"
        " exchange their locations (z_loc) or their appearances (z_app); in the last"
        " row all objects take the locations in reverse order",
        row_labels=["input", *scenes],
        column_labels=[f"image {image}" for image in images],
        frames=[
            (1, column, *yx[slot], model.sprite_size)
            for column, yx in enumerate(np.asarray(scene.yx))
            for slot in (0, 1)
        ],
    )
    return figure, (
        f"Object swaps on images of `{shown.split}`: the two framed objects exchange"
        " their locations, or their appearances; below, all objects take the locations"
        " in reverse order."
    )


def _right(shown, n):
    """Finds the images with n objects in which as many are inferred."""
    images = np.flatnonzero((shown.n == n) & (np.asarray(shown.scene.n) == n))
    if not len(images):
        raise NothingToShowError(
            f"none of the first {len(shown.n)} images of {shown.split} has {n} objects"
            " and is counted right"
        )
    return images


def _first(shown, n):
    """Takes the first image with n objects that is counted right, and its scene."""
    image = _right(shown, n)[0]
    return image, editing.take(shown.scene, image)


def _render(subject: Subject, scenes: Scene, num_rows: int) -> np.ndarray:
    """Renders scenes as [num_rows, columns, H, W, C]."""
    means = batched.render(subject.model, subject.variables, scenes)
    return means.reshape(num_rows, -1, *means.shape[1:])


def _beside_original(
    subject: Subject,
    shown: Images,
    image: int,
    scene: Scene,
    *,
    rows: np.ndarray,
    slots: Sequence[int],
    what: str,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
) -> Figure:
    """Draws rows of edited scenes behind the scene, whose edited object is framed."""
    (original,) = batched.render(subject.model, subject.variables, scene)
    yx = np.asarray(scene.yx)[0]
    return plotting.grid(
        [
            [shown.images[image] if row == 0 else None, original, *edited]
            for row, edited in enumerate(rows)
        ],
        title=f"{subject.title}, image {image} of {shown.split}: {what}",
        row_labels=row_labels,
        column_labels=["input", "reconstruction", *column_labels],
        frames=[
            (row, 1, *yx[slot], subject.model.sprite_size)
            for row, slot in enumerate(slots)
        ],
    )


def _largest(effects):
    """Sorts dimensions by their effect, the largest first."""
    return np.argsort(-effects, kind="stable")


def _signed(value):
    return f"{value:+.1f}".replace("-", "−") if value else "0"
