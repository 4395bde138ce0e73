"""One optimiser per part of the model, each with its learning rate and clipping."""

from typing import Any, NamedTuple

import jax
import optax

from lavae_jax.types import Array, Variables

_PRIORS = ("prior_n_logits", "prior_location")


class Parts(NamedTuple):
    """Holds one value for each part that is optimised on its own, or None.

    Attributes:
        location: the value for the location network.
        rest: the value for LAVAE's other networks.
        prior: the value for the logits of p(n), and of p(z_loc | n) if it is learned.
        auxiliary: the value for the auxiliary VAE.
    """

    location: Any = None
    rest: Any = None
    prior: Any = None
    auxiliary: Any = None


def split(params: Variables) -> Parts:
    """Splits {"lavae": ..., "auxiliary": ...} into the parameters of each part."""
    rest = dict(params["lavae"])
    location = rest.pop("location_net")
    prior = {name: rest.pop(name) for name in _PRIORS if name in rest}
    return Parts(location, rest, prior, params["auxiliary"])


def lavae_parts(lavae: Variables) -> Parts:
    """Splits LAVAE's parameters, or their gradient, into parts."""
    return split({"lavae": lavae, "auxiliary": None})


def join(parts: Parts) -> Variables:
    """Joins the parts again; undoes `split`."""
    lavae = {**parts.rest, **parts.prior, "location_net": parts.location}
    return {"lavae": lavae, "auxiliary": parts.auxiliary}


class Optimizer(NamedTuple):
    """Clips and updates each part on its own.

    One clip over all parts would shrink the gradients of the location network, which
    are the smallest already; and parts are not trained equally often.

    Attributes:
        transform: the update of a part for a learning rate of −1, as
            `optax.scale_by_adamax()` gives it after clipping.
        learning_rates: of each part, as schedules of the step.
    """

    transform: optax.GradientTransformation
    learning_rates: Parts

    def init(self, params: Variables) -> Parts:
        """Makes the state of the optimiser for fresh parameters."""
        return Parts(*map(self.transform.init, split(params)))

    def update(
        self, grads: Parts, opt_state: Parts, params: Variables, step: Array
    ) -> tuple[Variables, Parts]:
        """Makes one update, and returns the next parameters and state.

        Parts whose gradient is None stay as they are. Parameters are {"lavae": ...,
        "auxiliary": ...}, and learning rates are those of `step`.
        """

        def update_part(grad, state, params, rate):
            if grad is None:
                return params, state
            updates, state = self.transform.update(grad, state, params)
            scaled = jax.tree.map(lambda update: -rate(step) * update, updates)
            return optax.apply_updates(params, scaled), state

        parts = (grads, opt_state, split(params), self.learning_rates)
        params, opt_state = zip(*map(update_part, *parts), strict=True)
        return join(Parts(*params)), Parts(*opt_state)


def make_optimizer(
    transform: optax.GradientTransformation, learning_rates: Parts, clip_norm: float
) -> Optimizer:
    """Makes an `Optimizer` that first clips each part's gradient to `clip_norm`.

    `transform` is one such as `optax.scale_by_adamax()`. Each part is updated as one
    vector, which compiles and runs faster than an update per parameter.
    """
    clipped = optax.chain(optax.clip_by_global_norm(clip_norm), transform)
    return Optimizer(optax.flatten(clipped), learning_rates)
