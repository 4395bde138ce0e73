"""Draws the paper's figures for one data set: inference, samples, edited scenes."""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

import lavae_jax
from experiments.paper import batched
from experiments.paper import edits as paper_edits
from experiments.paper.edits import NothingToShowError
from experiments.paper.subject import Images, Subject
from lavae_jax import editing, plotting

NUM_SAMPLES = 36

IN_THE_PAPER = {
    1: (("multi_mnist/10k",), ("inference_3",)),
    2: (("multi_mnist/10k",), ("samples",)),
    3: (("multi_mnist/10k",), ("locations_7", "swaps_7", "appearances_7")),
    4: (("multi_dsprites",), ("samples",)),
    5: (("multi_dsprites",), ("inference_3",)),
    6: (("multi_dsprites",), ("swaps_3",)),
    7: (("multi_dsprites",), ("locations_3", "appearances_3")),
    8: (("multi_mnist/10k",), ("locations_7", "appearances_7")),
    9: (("multi_mnist/10k", "multi_dsprites"), ("samples_5_6",)),
    10: (("multi_mnist/1k",), ("samples",)),
    11: (("multi_mnist/1k",), ("swaps_7", "locations_7", "appearances_7")),
}
"""Maps the number of a figure in the paper to data sets and to figures of ours."""


class Picture(NamedTuple):
    """A figure on the page.

    Attributes:
        name: Name of the figure.
        file: Name of its file; None if the figure is left out.
        caption: What the figure shows, or why it is left out.
    """

    name: str
    file: str | None
    caption: str


def draw(subject: Subject, folder: pathlib.Path, seed: int) -> Iterator[Picture]:
    """Draws all figures of a data set into a folder, one after the other."""
    for name, make in _figures(subject, seed).items():
        try:
            figure, caption = make()
        except NothingToShowError as reason:
            yield Picture(name, None, f"Left out: {reason}.")
            continue
        plotting.save(figure, folder / f"{name}.png")
        yield Picture(name, f"{name}.png", caption)


def names() -> list[str]:
    """Lists the names of the figures of a data set, in their order."""
    return [*_BEFORE, *(f"{kind}_{n}" for n in (3, 7) for kind in _EDITS)]


def inference(subject: Subject, shown: Images, num: int) -> tuple[Figure, str]:
    """Draws Figures 1 and 5: input, reconstruction, locations, a sprite per object.

    Raises:
        NothingToShowError: If all images are black.
    """
    images = np.flatnonzero(shown.n > 0)[:num]
    if not len(images):
        raise NothingToShowError(
            f"the images of {shown.split} that were read are black"
        )
    scene = editing.take(shown.scene, images)
    figure = plotting.reconstructions(
        shown.images[images],
        batched.render(subject.model, subject.variables, scene),
        jax.device_get(scene),
        batched.sprites(subject.model, subject.variables, scene),
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
    if subject.baseline is None:
        return plotting.beside(grids), (
            "Samples from the prior of LAVAE. The baseline has not been trained on this"
            " data set, so there are no samples of it."
        )
    theirs = lavae_jax.generate(*subject.baseline, key, NUM_SAMPLES)
    grids[f"{subject.title}: samples of the baseline"] = np.asarray(theirs)
    return plotting.beside(grids), (
        "Samples from the prior (pixel means): LAVAE, with n from the learned p(n), on"
        " the left; the baseline on the right, whose samples are mostly black unless it"
        " has been trained for long."
    )


def samples_of_5_and_6(subject: Subject, seed: int) -> tuple[Figure, str]:
    """Draws Figure 9: samples with another p(n).

    Raises:
        NothingToShowError: If the model has fewer slots.
    """
    prior = np.zeros(subject.model.max_objects + 1)
    if len(prior) < 7:
        raise NothingToShowError(f"the model has no more than {len(prior) - 1} objects")
    prior[[5, 6]] = 0.5
    key = jax.random.key(seed)
    made = lavae_jax.generate(
        subject.model, subject.variables, key, NUM_SAMPLES, prior_n=prior
    )
    title = f"{subject.title}: samples with p(n) replaced, n = 5 or 6"
    return plotting.beside({title: np.asarray(made)}), (
        "Samples of LAVAE with p(n) replaced: n is 5 or 6, each with probability 1/2."
        " Under the prior the places of objects are independent: they may overlap."
    )


_EDITS = {
    "locations": paper_edits.locations,
    "appearances": paper_edits.appearances,
    "swaps": paper_edits.swaps,
}
_BEFORE = {
    "inference_3": lambda subject, seed: inference(subject, subject.few, 8),
    "inference_7": lambda subject, seed: inference(subject, subject.many, 4),
    "samples": samples,
    "samples_5_6": samples_of_5_and_6,
}


def _figures(
    subject: Subject, seed: int
) -> dict[str, Callable[[], tuple[Figure, str]]]:
    """Maps names to the functions that draw the figures, in their order."""
    made = {name: functools.partial(f, subject, seed) for name, f in _BEFORE.items()}
    for n, shown in ((3, subject.few), (7, subject.many)):
        for kind, edit in _EDITS.items():
            made[f"{kind}_{n}"] = functools.partial(edit, subject, shown, n)
    return made
