"""What a train step tells of itself."""

from typing import NamedTuple

import jax.numpy as jnp

from lavae_jax.objectives import ElboTerms
from lavae_jax.refinement import Target
from lavae_jax.types import Array


class TrainMetrics(NamedTuple):
    """Means over the batch; nats per image where not stated otherwise.

    What the phase of a step does not compute is None.
    """

    loss: Array  # of everything that is trained
    elbo: Array | None = None
    log_px: Array | None = None
    kl_app: Array | None = None
    kl_loc: Array | None = None
    kl_n: Array | None = None
    bound: Array | None = None  # importance-weighted, at given locations
    location_loss: Array | None = None
    auxiliary_loss: Array | None = None
    objects: Array | None = None  # per image
    moved: Array | None = None  # share of the objects
    dropped: Array | None = None  # share of the objects
    added: Array | None = None  # share of the images
    touching: Array | None = None  # share of the images, see `touching`
    tau: Array | None = None
    epsilon: Array | None = None


def of_terms(metrics: TrainMetrics, terms: ElboTerms, active: Array) -> TrainMetrics:
    """Adds the ELBO's terms, each [B], and the number of objects, active [B, M]."""
    return metrics._replace(
        elbo=terms.elbo.mean(),
        objects=_per_image(active),
        **{name: term.mean() for name, term in terms._asdict().items()},
    )


def of_target(metrics: TrainMetrics, target: Target) -> TrainMetrics:
    """Adds what refinement changes, still per image: see `per_object`."""
    return metrics._replace(
        moved=_per_image(target.moved),
        dropped=_per_image(target.dropped),
        added=_per_image(target.added),
    )


def per_object(metrics: TrainMetrics) -> TrainMetrics:
    """Changes per image to shares of the objects, once all devices' are averaged."""
    if metrics.moved is None:
        return metrics
    objects = jnp.where(metrics.objects > 0, metrics.objects, 1)
    return metrics._replace(
        moved=metrics.moved / objects, dropped=metrics.dropped / objects
    )


def _per_image(marked: Array) -> Array:
    return marked.sum(axis=1).astype(jnp.float32).mean()
