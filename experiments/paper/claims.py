"""What the paper claims in words, as numbers: counts and calibration of p(n)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from datasets import load, scenes
from experiments.measure import measure
from experiments.paper import batched
from experiments.paper import subject as paper_subject
from experiments.paper.subject import Settings, Subject
from lavae_jax import metrics


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
        counts: Counts for every n.
        calibration: Calibration of p(n).
        effects: [L] how much each dimension of an appearance changes sprites.
    """

    counts: Counts
    calibration: Calibration
    effects: np.ndarray


def measure_claims(
    subject: Subject,
    scene_maker: Callable[[scenes.Split, int], dict[str, Any]],
    num_valid: int,
    settings: Settings,
) -> Claims:
    """Measures all claims.

    Args:
        subject: The data set with its model.
        scene_maker: Makes more scenes like those of the data set.
        num_valid: Scenes at the end of the training split that were held out.
        settings: How many images to use, the seed, and where the data is.
    """
    return Claims(
        measure_counts(subject, scene_maker, settings),
        measure_calibration(subject, num_valid, settings),
        paper_subject.effects(subject, subject.few.scene),
    )


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
