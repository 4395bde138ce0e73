"""What a run needs of a model, and how it looks at the model on held-out scenes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.run.views import View
from lavae_jax.inference import Model

_NUM_PICTURED = 8


class Experiment(NamedTuple):
    """A model, and how it is trained, shown and measured.

    Attributes:
        model: LAVAE or the baseline, in float32.
        init: from a key to a fresh state.
        train_step_at: from the number of a step, counted from 1, to the function that
            makes it: from a state and images to the next state and a NamedTuple of
            scalars.
        shown: names of those scalars that go to the terminal; all of them are stored.
        look: from a state and images to what the model sees in them, which draws
            itself with `figure(images)`.
        measure: from a state, held-out images and their true n, or None where it is
            not known, to a NamedTuple of figures per image, each [B] or None, whose
            means are reported.
        warnings: from the number of a step and these means to what the user should
            know of them.
    """

    model: Model
    init: Callable[..., Any]
    train_step_at: Callable[[int], Callable[..., Any]]
    shown: tuple[str, ...]
    look: Callable[..., View]
    measure: Callable[..., Any]
    warnings: Callable[[int, Any], Sequence[str]]


class Evaluator:
    """Looks at the states of a model on scenes that it is not trained on.

    Args:
        experiment: the model, and how it is measured and shown.
        images: [N, H, W, C] uint8.
        n: [N] int32 numbers of objects; None where they are not known.
        batch_size: so many images are measured at a time.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: np.ndarray,
        n: np.ndarray | None,
        batch_size: int,
    ):
        self._look = jax.jit(experiment.look)
        self._measure = jax.jit(experiment.measure)
        self._images, self._n, self._batch_size = images, n, batch_size

    def measure(self, state: Any) -> Any:
        """Returns the means over all images of what `experiment.measure` gives.

        Args:
            state: a state on one device.
        """
        num, parts = len(self._images), []
        for start in range(0, num, self._batch_size):
            # The last batch is filled up, so that all have one shape and compilation.
            indices = np.arange(start, start + self._batch_size) % num
            n = None if self._n is None else self._n[indices]
            parts.append(self._measure(state, self._images[indices], n))
        return jax.tree.map(lambda *x: float(np.concatenate(x)[:num].mean()), *parts)

    def draw(self, state: Any) -> Figure:
        """Returns a picture of what the model sees; black images come last."""
        is_black = ~self._images.any(axis=(1, 2, 3))
        images = self._images[np.argsort(is_black, kind="stable")[:_NUM_PICTURED]]
        return self._look(state, images).figure(images)
