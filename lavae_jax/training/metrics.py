"""The metrics that a train step reports."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lavae_jax.objectives import ElboTerms
from lavae_jax.types import Array


class TrainMetrics(NamedTuple):
    """Means over images, []; nats per image where not stated otherwise.

    What a stage of the run does not compute is None.
    """

    loss: Array  # of everything that is trained
    elbo: Array | None = None
    log_px: Array | None = None
    kl_app: Array | None = None
    kl_loc: Array | None = None
    kl_n: Array | None = None
    kl_background: Array | None = None
    bound: Array | None = None  # of several draws of z_app, at given locations
    location_loss: Array | None = None  # squared loss on h_loc
    auxiliary_loss: Array | None = None
    objects: Array | None = None  # per image


def of_terms(metrics: TrainMetrics, terms: ElboTerms, n: Array) -> TrainMetrics:
    """Adds the means of the ELBO's terms and of the numbers of objects, all [B]."""
    return metrics._replace(
        elbo=terms.elbo.mean(),
        objects=n.astype(jnp.float32).mean(),
        **jax.tree.map(jnp.mean, terms)._asdict(),
    )
