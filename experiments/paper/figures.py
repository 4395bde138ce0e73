"""Draws the paper's figures for one data set: inference, samples, edited scenes."""

import functools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

import lavae_jax
from experiments.paper.subject import HIGH, LOW, Images, Subject, measure_effects
from lavae_jax import editing, plotting

NUM_SAMPLES = 36
NUM_PLACES = 7
VALUES = np.linspace(LOW, HIGH, 9)
NUM_DIMS = 6


class NothingToShowError(Exception):
    """Raised, with the reason, for a figure that has to be left out."""


class Picture(NamedTuple):
    """A figure on the page."""

    name: str
    is_drawn: bool  # as NAME.png
    caption: str  # what the figure shows, or why it is left out


def draw(subject: Subject, folder: pathlib.Path, seed: int) -> Iterator[Picture]:
    """Draws all figures of a data set into a folder, one after the other."""
    drawing = {
        "inference_3": functools.partial(inference, subject, subject.few, 8),
        "inference_7": functools.partial(inference, subject, subject.many, 4),
        "samples": functools.partial(samples, subject, seed),
        "samples_5_6": functools.partial(samples_of_5_and_6, subject, seed),
    }
    edits = {"locations": locations, "appearances": appearances, "swaps": swaps}
    for n, shown in ((3, subject.few), (7, subject.many)):
        for name, edit in edits.items():
            drawing[f"{name}_{n}"] = functools.partial(edit, subject, shown, n)
    for name, make in drawing.items():
        try:
            figure, caption = make()
        except NothingToShowError as reason:
            yield Picture(name, False, f"Left out: {reason}.")
            continue
        plotting.save(figure, folder / f"{name}.png")
        yield Picture(name, True, caption)


def inference(subject: Subject, shown: Images, num: int) -> tuple[Figure, str]:
    """Draws Figures 1 and 5: input, reconstruction, locations, a sprite per object."""
    images = np.flatnonzero(shown.n > 0)[:num]
    if not len(images):
        raise NothingToShowError(
            f"the images of {shown.split} that were read are black"
        )
    scene = editing.take(shown.scene, images)
    figure = plotting.reconstructions(
        shown.images[images],
        subject.render(scene),
        jax.device_get(scene),
        subject.sprites(scene),
        title=f"{subject.title}: what is inferred from images of {shown.split}"
        " (in brackets the true n; the sprites of the objects are enlarged)",
        row_labels=[f"image {i}\n(n = {shown.n[i]})" for i in images],
    )
    return figure, (
        f"The first images of `{shown.split}` with objects: input, reconstruction,"
        " inferred locations, and the sprite of each object."
    )


def samples(subject: Subject, seed: int) -> tuple[Figure, str]:
    """Draws Figures 2, 4 and 10: samples from the prior, beside the baseline's."""
    key = jax.random.key(seed)
    ours = lavae_jax.generate(subject.model, subject.variables, key, NUM_SAMPLES)
    grids = {f"{subject.title}: samples of LAVAE (black: n = 0)": np.asarray(ours)}
    if subject.baseline is not None:
        theirs = lavae_jax.generate(*subject.baseline, key, NUM_SAMPLES)
        grids[f"{subject.title}: samples of the baseline"] = np.asarray(theirs)
    return plotting.beside(grids), (
        "Samples from the prior (pixel means): LAVAE, with n from the learned p(n), and"
        " the baseline if it has been trained on this data set. Its samples are mostly"
        " black unless it has been trained for long."
    )


def samples_of_5_and_6(subject: Subject, seed: int) -> tuple[Figure, str]:
    """Draws Figure 9: samples with another p(n)."""
    prior = np.zeros(subject.model.max_objects + 1)
    if len(prior) < 7:
        raise NothingToShowError(f"the model has no more than {len(prior) - 1} objects")
    prior[[5, 6]] = 0.5
    key = jax.random.key(seed)
    means = lavae_jax.generate(
        subject.model, subject.variables, key, NUM_SAMPLES, prior_n=prior
    )
    title = f"{subject.title}: samples with p(n) replaced, n = 5 or 6"
    return plotting.beside({title: np.asarray(means)}), (
        "Samples of LAVAE with p(n) replaced: n is 5 or 6, each with probability 1/2."
        " Under the prior the places of objects are independent: they may overlap."
    )


def locations(subject: Subject, shown: Images, n: int) -> tuple[Figure, str]:
    """Draws Figures 3, 7, 8 and 11: each of three objects moved across and down.

    The image is the first with n objects that is counted right.
    """
    image = _counted_right(shown, n)[0]
    scene = editing.take(shown.scene, image)
    shape, yx = subject.model.image_shape, np.asarray(scene.yx)[0]
    margin = subject.model.sprite_size // 2
    slots = range(min(3, n))

    def across(scene, slot, x):
        return editing.move(scene, slot, (yx[slot, 0], x), shape)

    def down(scene, slot, y):
        return editing.move(scene, slot, (y, yx[slot, 1]), shape)

    rows, columns = (
        np.linspace(margin, size - 1 - margin, NUM_PLACES).round().astype(int)
        for size in shape[:2]
    )
    moved = [
        _traversal(subject, scene, across, slots, columns),
        _traversal(subject, scene, down, slots, rows),
    ]
    figure = _beside_original(
        subject,
        shown,
        image,
        rows=np.stack(moved, axis=1).reshape(-1, *moved[0].shape[1:]),
        slots=np.repeat(slots, 2),
        row_labels=[
            f"object {slot + 1},\n{way}" for slot in slots for way in ("across", "down")
        ],
        column_labels=[str(column) for column in columns],
    )
    return figure, (
        f"Location traversal on image {image} of `{shown.split}`: in each row the"
        " location of the framed object alone is changed, to the column (across) or row"
        " (down) given above, in pixels."
    )


def appearances(subject: Subject, shown: Images, n: int) -> tuple[Figure, str]:
    """Draws Figures 3, 7, 8 and 11: single dimensions of one object's appearance."""
    image = _counted_right(shown, n)[0]
    scene = editing.take(shown.scene, image)
    effects = measure_effects(subject, scene)
    dims = np.argsort(-effects, kind="stable")[:NUM_DIMS]

    def edit(scene, dim, value):
        return editing.restyle(scene, 0, dim, value)

    figure = _beside_original(
        subject,
        shown,
        image,
        rows=_traversal(subject, scene, edit, dims, VALUES),
        slots=[0] * len(dims),
        row_labels=[f"dimension {d}\n({effects[d]:.3f})" for d in dims],
        column_labels=[f"{value:+.1f}" for value in VALUES],
    )
    return figure, (
        f"Appearance traversal on image {image} of `{shown.split}`: in each row one"
        " dimension of the appearance of the framed object is set to the values above."
        f" Of all {len(effects)} dimensions these change its sprite most: in brackets,"
        f" the mean change of its pixels over values from −2 to 2."
    )


def swaps(subject: Subject, shown: Images, n: int) -> tuple[Figure, str]:
    """Draws Figures 3, 6 and 11: one of the two sequences reordered, in four images."""
    images = _counted_right(shown, n)[:4]
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
    figure = plotting.grid(
        [shown.images[images], *map(subject.render, scenes.values())],
        title=f"{subject.title}, images of {shown.split}",
        row_labels=["input", *scenes],
        column_labels=[f"image {image}" for image in images],
        frames=[
            (1, column, *yx[slot], subject.model.sprite_size)
            for column, yx in enumerate(np.asarray(scene.yx))
            for slot in (0, 1)
        ],
    )
    return figure, (
        f"Object swaps on images of `{shown.split}`: the two framed objects exchange"
        " their locations, or their appearances; below, all objects take the locations"
        " in reverse order."
    )


def _counted_right(shown, n):
    """Finds the images with n objects in which as many are inferred."""
    images = np.flatnonzero((shown.n == n) & (np.asarray(shown.scene.n) == n))
    if not len(images):
        raise NothingToShowError(
            f"none of the first {len(shown.n)} images of {shown.split} has {n} objects"
            " and is counted right"
        )
    return images


def _traversal(subject, scene, edit, rows, values):
    """Renders a scene with every edit, [rows, values, H, W, C]."""
    means = subject.render(editing.traverse(scene, edit, rows, values))
    return means.reshape(len(rows), len(values), *means.shape[1:])


def _beside_original(subject, shown, image, rows, slots, row_labels, column_labels):
    """Draws rows of edited scenes behind the scene, whose edited object is framed."""
    scene = editing.take(shown.scene, image)
    (original,) = subject.render(scene)
    yx = np.asarray(scene.yx)[0]
    return plotting.grid(
        [
            [shown.images[image] if row == 0 else None, original, *edited]
            for row, edited in enumerate(rows)
        ],
        title=f"{subject.title}, image {image} of {shown.split}",
        row_labels=row_labels,
        column_labels=["input", "reconstruction", *column_labels],
        frames=[
            (row, 1, *yx[slot], subject.model.sprite_size)
            for row, slot in enumerate(slots)
        ],
    )
