"""What the paper claims in words, as numbers: independence, counts, calibration."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

import lavae_jax
from datasets import load, scenes
from experiments import batched, measure, paper_subject
from experiments.paper_subject import Images, Settings, Subject
from lavae_jax import disentanglement, editing, metrics, segmentation

What = Literal["location", "appearance"]

GAP = 4
"""Black pixels left around an object where it is put: the margins of two digits."""


class Edit(NamedTuple):
    """What changes when one object of every scene is changed; see `disentanglement`.

    Attributes:
      split: Where the scenes are from.
      what: The location or the appearance.
      num_scenes: With two objects and more, and a place for one to go.
      outside: The largest change outside the sprite's windows, over all scenes.
      others: Mean change of the pixels of all other objects.
      own: Mean change of the object's own pixels.
      same_count: Share of the edited pictures in which as many objects are found.
      location: Distances of objects found there from where they were put.
    """

    split: str
    what: What
    num_scenes: int
    outside: float
    others: metrics.Estimate
    own: metrics.Estimate
    same_count: float
    location: metrics.LocationError


class Counts(NamedTuple):
    """Counting in new scenes of the same kind, for each number of objects.

    Attributes:
      num_scenes: [M+1], of each n; fewer where so many objects may not fit.
      accuracy: [M+1], share of them counted right; NaN without scenes.
      confusion: [M+1, M+1] scenes, true counts in rows.
    """

    num_scenes: np.ndarray
    accuracy: np.ndarray
    confusion: np.ndarray


class Calibration(NamedTuple):
    """The learned p(n), beside how often every n occurs in training.

    Attributes:
      num_scenes: Of the training split, held-out ones left out.
      frequencies: [M+1].
      learned: [M+1].
      divergence: KL(frequencies || learned), nats per image.
    """

    num_scenes: int
    frequencies: np.ndarray
    learned: np.ndarray
    divergence: float


class Claims(NamedTuple):
    """All of it, for one data set.

    Attributes:
      edits: By split and by what was edited.
      reordering: The largest difference of any pixel between swapping two objects in
        z_loc and in z_app.
      counts: For every n.
      calibration: Of p(n).
      effects: [L], how much each dimension of an appearance changes sprites.
    """

    edits: tuple[Edit, ...]
    reordering: float
    counts: Counts
    calibration: Calibration
    effects: np.ndarray


def measured(
    subject: Subject,
    scene_maker: Callable[[scenes.Split, int], dict[str, Any]],
    num_valid: int,
    settings: Settings,
) -> Iterator[tuple[str, Any]]:
    """Measures what `Claims` has, field by field, as names and values.

    Args:
      subject: The data set.
      scene_maker: Makes more scenes like its own.
      num_valid: Scenes at the end of the training split that were held out.
      settings: How many images, the seed, and where data is.
    """
    edits = []
    for number, shown in enumerate((subject.few, subject.many)):
        for what in ("location", "appearance"):
            rng = np.random.default_rng([settings.seed, number])
            if (edit := edited(subject, shown, what, rng)) is not None:
                edits.append(edit)
    yield "edits", tuple(edits)
    yield "reordering", reordering(subject)
    yield "counts", counts(subject, scene_maker, settings)
    yield "calibration", calibration(subject, num_valid, settings)
    yield "effects", paper_subject.effects(subject, subject.few.scene)


def edited(
    subject: Subject, shown: Images, what: What, rng: np.random.Generator
) -> Edit | None:
    """Changes one object of every scene with two and more, and looks what changes.

    A location is one at which the object is not cut and keeps a distance from others,
    as objects do in the data; an appearance is drawn from the prior.

    Args:
      subject: The data set.
      shown: Its images.
      what: Is changed.
      rng: Chooses objects and what they become.

    Returns:
      What was found; None if there is no such scene, or nowhere to go.
    """
    images = np.flatnonzero(np.asarray(shown.scene.n) >= 2)
    if not len(images):
        return None
    model, variables = subject.model, subject.variables
    before = jax.device_get(editing.take(shown.scene, images))
    slot = rng.integers(before.n)
    sprites = batched.sprites(model, variables, before)
    labels = segmentation.segment(
        before.yx, before.active, sprites, model.image_shape[:2]
    )
    if what == "appearance":
        z_app = rng.normal(size=(len(slot), before.z_app.shape[-1]))
        after = editing.restyle(before, slot, np.arange(z_app.shape[1]), z_app)
    else:
        places = _places_to_go(before, slot, labels, rng)
        if not places:
            return None
        kept = np.array(list(places))
        before = lavae_jax.Scene(*(field[kept] for field in before))
        slot, labels = slot[kept], labels[kept]
        places = np.stack(list(places.values()))
        after = editing.move(before, slot, places, model.image_shape)

    return _found(
        subject, shown.split, what, (before, jax.device_get(after)), slot, labels
    )


def _found(subject, split, what, scenes, slot, labels):
    """What an edit of the slots from one scene to the other changes in the pictures."""
    before, after = scenes
    model, variables = subject.model, subject.variables
    pictures = [batched.render(model, variables, scene) for scene in scenes]
    rows = np.arange(len(slot))
    change = disentanglement.change(
        *pictures,
        labels,
        slot,
        before.yx[rows, slot],
        after.yx[rows, slot],
        model.sprite_size,
    )
    again = batched.infer(model, variables, (pictures[1] > 0.5).astype(np.float32))
    return Edit(
        split=split,
        what=what,
        num_scenes=len(slot),
        outside=float(change.outside.max()),
        others=_mean(change.others),
        own=_mean(change.own),
        same_count=metrics.count_accuracy(after.n, again.n),
        location=metrics.location_error(_centres(after), _centres(again)),
    )


def reordering(subject: Subject) -> float:
    """How far swapping two objects in z_loc is from swapping them in z_app."""
    largest = 0.0
    for shown in (subject.few, subject.many):
        images = np.flatnonzero(np.asarray(shown.scene.n) >= 2)
        if len(images):
            scene = editing.take(shown.scene, images)
            by_location, by_appearance = (
                batched.render(subject.model, subject.variables, one)
                for one in (
                    editing.swap(scene, 0, 1, "location"),
                    editing.swap(scene, 0, 1, "appearance"),
                )
            )
            largest = max(largest, float(np.abs(by_location - by_appearance).max()))
    return largest


def counts(
    subject: Subject,
    scene_maker: Callable[[scenes.Split, int], dict[str, Any]],
    settings: Settings,
) -> Counts:
    """Counts the objects of new scenes, for every number from 0 to M.

    Args:
      subject: The data set.
      scene_maker: Makes the scenes.
      settings: How many of each number, and their seed.
    """
    most = subject.model.max_objects
    images, true_n = [], []
    for n in range(min(most, scenes.MAX_OBJECTS) + 1):
        split = scenes.extra_split(n, settings.seed, settings.num_images)
        made = list(_scenes(scene_maker, split))
        images += [example["image"] for example in made]
        true_n += [n] * len(made)
    found = batched.infer(subject.model, subject.variables, np.stack(images))
    confusion = metrics.count_confusion(np.array(true_n), found.n, most)
    num_scenes = confusion.sum(axis=1)
    accuracy = np.where(
        num_scenes > 0, np.diag(confusion) / np.maximum(num_scenes, 1), np.nan
    )
    return Counts(num_scenes, accuracy, confusion)


def calibration(subject: Subject, num_valid: int, settings: Settings) -> Calibration:
    """Compares p(n) with the scenes it was learned from.

    Args:
      subject: The data set.
      num_valid: Scenes at the end of the training split that were held out.
      settings: Where the data is.
    """
    split = f"train[:-{num_valid}]" if num_valid else "train"
    n = load.object_counts(subject.dataset, split, *settings.folders)
    log_p_n = measure.learned_log_p_n(subject.model, subject.variables)
    frequencies = np.bincount(n, minlength=len(log_p_n)) / len(n)
    return Calibration(
        len(n),
        frequencies,
        np.exp(log_p_n),
        disentanglement.count_divergence(frequencies, log_p_n),
    )


def _places_to_go(before, slot, labels, rng):
    """By image, a new place for the object in one slot, where there is one."""
    places = {}
    for image, object_ in enumerate(slot):
        yx = before.yx[image, object_]
        free = disentanglement.free_sites(labels[image], object_, yx, GAP)
        free = free[(free != yx).any(axis=1)]
        if len(free):
            places[image] = rng.choice(free)
    return places


def _scenes(scene_maker, split):
    """The scenes of a split, without those in which no place is left for an object."""
    for index in range(split.num_examples):
        try:
            yield scene_maker(split, index)
        except ValueError:
            continue


def _centres(scene):
    return [yx[active] for yx, active in zip(scene.yx, scene.active, strict=True)]


def _mean(values):
    return metrics.mean_and_error(values[~np.isnan(values)])
