"""What the paper claims in words, as numbers: edits, counts, calibration of p(n)."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

import lavae_jax
from datasets import load, scenes
from experiments.measure import measure
from experiments.paper import batched
from experiments.paper import subject as paper_subject
from experiments.paper.subject import Images, Settings, Subject
from lavae_jax import editing, metrics, segmentation

What = Literal["location", "appearance"]

GAP = 4
"""Black pixels left around an object that is moved: the margins of two digits."""


class Edit(NamedTuple):
    """What the model finds in pictures of scenes in which one object was changed.

    Attributes:
        split: The split that the scenes are from.
        what: Whether the location or the appearance was changed.
        num_scenes: Scenes with at least two objects and a place for one to go.
        same_count: Share of the pictures in which as many objects are found as are in
            the edited scene.
        location: Distances of the objects found from those of the edited scene.
    """

    split: str
    what: What
    num_scenes: int
    same_count: float
    location: metrics.LocationError


class Counts(NamedTuple):
    """Counting in new scenes of the same kind, for each number of objects.

    Attributes:
        num_scenes: [M+1] scenes with each n; fewer where so many objects may not fit.
        accuracy: [M+1] share of them counted right; NaN without scenes.
        confusion: [M+1, M+1] scenes, true counts in rows.
    """

    num_scenes: np.ndarray
    accuracy: np.ndarray
    confusion: np.ndarray


class Calibration(NamedTuple):
    """The learned p(n), beside how often every n occurs in training.

    Attributes:
        num_scenes: Scenes of the training split, without the held-out ones.
        frequencies: [M+1] share of them with each n.
        learned: [M+1] learned p(n).
        divergence: KL(frequencies || learned), nats per image.
    """

    num_scenes: int
    frequencies: np.ndarray
    learned: np.ndarray
    divergence: float


class Claims(NamedTuple):
    """All claims for one data set.

    Attributes:
        edits: One for each split and kind of edit.
        counts: Counts for every n.
        calibration: Calibration of p(n).
        effects: [L] how much each dimension of an appearance changes sprites.
    """

    edits: tuple[Edit, ...]
    counts: Counts
    calibration: Calibration
    effects: np.ndarray


def measure_claims(
    subject: Subject,
    scene_maker: Callable[[scenes.Split, int], dict[str, Any]],
    num_valid: int,
    settings: Settings,
) -> Iterator[tuple[str, Any]]:
    """Yields the fields of `Claims` one after the other, as names and values.

    Args:
        subject: The data set with its model.
        scene_maker: Makes more scenes like those of the data set.
        num_valid: Scenes at the end of the training split that were held out.
        settings: How many images to use, the seed, and where the data is.
    """
    edits = []
    for number, shown in enumerate((subject.few, subject.many)):
        for what in ("location", "appearance"):
            rng = np.random.default_rng([settings.seed, number])
            if (edit := measure_edit(subject, shown, what, rng)) is not None:
                edits.append(edit)
    yield "edits", tuple(edits)
    yield "counts", measure_counts(subject, scene_maker, settings)
    yield "calibration", measure_calibration(subject, num_valid, settings)
    yield "effects", paper_subject.effects(subject, subject.few.scene)


def measure_edit(
    subject: Subject, shown: Images, what: What, rng: np.random.Generator
) -> Edit | None:
    """Changes one object of every scene, paints the scene, and infers it again.

    A new location is one at which the object is not cut and keeps `GAP` pixels from
    others; a new appearance is drawn from the prior.

    Args:
        subject: The data set with its model.
        shown: Images, of whose scenes those with at least two objects are edited.
        what: What is changed.
        rng: Chooses the objects, their new places and appearances.

    Returns:
        What was found, or None if there is no such scene or no place to go.
    """
    images = np.flatnonzero(np.asarray(shown.scene.n) >= 2)
    if not len(images):
        return None
    model, variables = subject.model, subject.variables
    before = jax.device_get(editing.take(shown.scene, images))
    slot = rng.integers(before.n)
    if what == "appearance":
        z_app = rng.normal(size=(len(slot), before.z_app.shape[-1]))
        after = editing.restyle(before, slot, np.arange(z_app.shape[1]), z_app)
    else:
        places = _choose_places(subject, before, slot, rng)
        if not places:
            return None
        kept = np.array(list(places))
        before = lavae_jax.Scene(*(field[kept] for field in before))
        new_yx = np.stack(list(places.values()))
        after = editing.move(before, slot[kept], new_yx, model.image_shape)
    after = jax.device_get(after)
    picture = batched.render(model, variables, after)
    found = batched.infer(model, variables, (picture > 0.5).astype(np.float32))
    return Edit(
        split=shown.split,
        what=what,
        num_scenes=len(after.n),
        same_count=metrics.count_accuracy(after.n, found.n),
        location=metrics.location_error(_centres(after), _centres(found)),
    )


def free_sites(
    labels: np.ndarray, slot: int, yx: np.ndarray, gap: int = 0
) -> np.ndarray:
    """Finds where one object of an image could go without being cut or touching others.

    Args:
        labels: [H, W] objects of the image: 0 is the background, i + 1 the object in
            slot i.
        slot: The object to move.
        yx: [2] the centre of its sprite.
        gap: Pixels around its bounding box that others must leave free.

    Returns:
        [K, 2] centres at which all its pixels lie inside the image, and its bounding
        box with the gap around it holds no pixel of another object. For an object
        without pixels these are all sites.
    """
    pixels = np.argwhere(labels == slot + 1) - yx
    if not len(pixels):
        return np.argwhere(np.ones(labels.shape, bool))
    taken = (labels > 0) & (labels != slot + 1)
    # The sum over any box is a difference of sums from the corner.
    sums = np.pad(taken.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside, ends = [], []
    for length, low, high in zip(
        labels.shape, pixels.min(axis=0), pixels.max(axis=0), strict=True
    ):
        first, last = np.arange(length) + low, np.arange(length) + high
        inside.append((first >= 0) & (last < length))
        ends.append(np.clip([first - gap, last + gap + 1], 0, length))
    (top, bottom), (left, right) = ends
    rows = sums[bottom] - sums[top]
    hits = rows[:, right] - rows[:, left]
    return np.argwhere(np.logical_and.outer(*inside) & (hits == 0))


def measure_counts(
    subject: Subject,
    scene_maker: Callable[[scenes.Split, int], dict[str, Any]],
    settings: Settings,
) -> Counts:
    """Counts the objects of new scenes, for every number from 0 to M.

    Args:
        subject: The data set with its model.
        scene_maker: Makes the scenes; a ValueError says that no place is left in one.
        settings: How many scenes of each number to make, and their seed.
    """
    most = subject.model.max_objects
    images, true_n = [], []
    for n in range(min(most, scenes.MAX_OBJECTS) + 1):
        split = scenes.extra_split(n, settings.seed, settings.num_images)
        for index in range(split.num_examples):
            try:
                images.append(scene_maker(split, index)["image"])
                true_n.append(n)
            except ValueError:
                continue
    found = batched.infer(subject.model, subject.variables, np.stack(images))
    confusion = metrics.count_confusion(np.array(true_n), found.n, most)
    num_scenes = confusion.sum(axis=1)
    accuracy = np.where(
        num_scenes > 0, np.diag(confusion) / np.maximum(num_scenes, 1), np.nan
    )
    return Counts(num_scenes, accuracy, confusion)


def measure_calibration(
    subject: Subject, num_valid: int, settings: Settings
) -> Calibration:
    """Compares p(n) with the scenes it was learned from.

    Args:
        subject: The data set with its model.
        num_valid: Scenes at the end of the training split that were held out.
        settings: Where the data is.
    """
    split = f"train[:-{num_valid}]" if num_valid else "train"
    n = load.object_counts(subject.dataset, split, *settings.folders)
    log_p_n = measure.learned_log_p_n(subject.model, subject.variables)
    frequencies = np.bincount(n, minlength=len(log_p_n)) / len(n)
    occurs = frequencies > 0
    log_ratio = np.log(frequencies[occurs]) - log_p_n[occurs]
    divergence = float((frequencies[occurs] * log_ratio).sum())
    return Calibration(len(n), frequencies, np.exp(log_p_n), divergence)


def _choose_places(subject, before, slot, rng):
    """Chooses a new place for the object in one slot, by image, where there is one."""
    sprites = batched.sprites(subject.model, subject.variables, before)
    size = subject.model.image_shape[:2]
    labels = segmentation.segment(before.yx, before.active, sprites, size)
    places = {}
    for image, object_ in enumerate(slot):
        yx = before.yx[image, object_]
        free = free_sites(labels[image], object_, yx, GAP)
        free = free[(free != yx).any(axis=1)]
        if len(free):
            places[image] = rng.choice(free)
    return places


def _centres(scene):
    return [yx[active] for yx, active in zip(scene.yx, scene.active, strict=True)]
