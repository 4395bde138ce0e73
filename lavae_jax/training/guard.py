"""Steps that spoil a run are told, and leave its state as it was where wanted."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lavae_jax.types import Array


class Guarded(NamedTuple):
    """What a guarded step tells.

    Attributes:
        metrics: of the step.
        spoilt: bool, one for each of `names`, whether the step has put a number into it
            that is not finite, or would have.
    """

    metrics: Any
    spoilt: Array


def names(state: Any) -> list[str]:
    """The arrays of a state that hold real numbers, by their paths."""
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree.leaves_with_path(state)
        if _is_real(leaf)
    ]


# The same function every time, so that what has been compiled of it is found again.
@functools.cache
def tell_what_spoils(
    train_step: Callable[[Any, Array], tuple[Any, Any]],
) -> Callable[[Any, Array], tuple[Any, Guarded]]:
    """Makes a train step that tells where its result is not finite.

    Args:
        train_step: from a state and images to the next state and metrics, a NamedTuple
            of scalars.

    Returns:
        The same, with `Guarded` in place of the metrics.
    """

    def guarded(state, images):
        after, metrics = train_step(state, images)
        spoilt = [_is_spoilt(x) for x in jax.tree.leaves(after) if _is_real(x)]
        return after, Guarded(metrics, jnp.stack(spoilt))

    return guarded


@functools.cache
def skip_what_spoils(
    train_step: Callable[[Any, Array], tuple[Any, Any]],
) -> Callable[[Any, Array], tuple[Any, Guarded]]:
    """Makes a train step that skips itself where its result is not finite.

    The gradients of such a step, or its loss, are not finite: of the new state only the
    number of the step is taken then, so that the next one draws anew. As state and
    metrics are the same on every device, all of them skip the same steps.

    Args:
        train_step: as for `tell_what_spoils`; its metrics have a field `skipped`.

    Returns:
        The same, with `Guarded` in place of the metrics, `skipped` 1 or 0.
    """
    told = tell_what_spoils(train_step)

    def guarded(state, images):
        after, (metrics, spoilt) = told(state, images)
        measured = jnp.stack([_is_spoilt(x) for x in jax.tree.leaves(metrics)])
        skip = jnp.any(spoilt) | jnp.any(measured)
        kept = jax.tree.map(lambda old, new: jnp.where(skip, old, new), state, after)
        metrics = metrics._replace(skipped=skip.astype(jnp.float32))
        return kept._replace(step=after.step), Guarded(metrics, spoilt)

    return guarded


def _is_real(x):
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _is_spoilt(x):
    return ~jnp.all(jnp.isfinite(x))
