"""The parts of LAVAE's train steps, and the work that all of these steps share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax.model import LAVAE
from lavae_jax.training.keys import image_keys
from lavae_jax.training.optimizer import Optimizer, Parts
from lavae_jax.training.recipe import Recipe
from lavae_jax.training.schedules import Schedules
from lavae_jax.training.state import TrainState
from lavae_jax.training.superposition import Superposed, covered_pixels, superpose
from lavae_jax.types import Array, Variables
from lavae_jax.warmup import AuxiliaryVAE


class Setup(NamedTuple):
    """The parts of a train step.

    Attributes:
        model: LAVAE; its `axis_name` is the mapped axis of devices, or None.
        auxiliary: the auxiliary VAE of the warm-up.
        optimizer: updates the parameters of both.
        schedules: gives τ and the noise of pixels at a step.
        recipe: the other settings of training.
    """

    model: LAVAE
    auxiliary: AuxiliaryVAE
    optimizer: Optimizer
    schedules: Schedules
    recipe: Recipe

    def noise(self, state: TrainState) -> Array | None:
        """Returns ε or σ of the likelihood in this step, []; None if it is learned."""
        if self.schedules.noise is None:
            return None
        return jnp.asarray(self.schedules.noise(state.step), jnp.float32)

    def keys(self, state: TrainState, update: Array | int, num_images: int) -> Array:
        """Makes a key per image for an update of this step, [B]."""
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), update)
        return image_keys(key, num_images, self.model.axis_name)

    def superposed(
        self, state: TrainState, x: Array, share: float, touching: bool, keys: Array
    ) -> Superposed:
        """Superposes a share of the images [B, H, W, C], by an update's keys [B]."""
        if not share:
            none = jnp.zeros(x.shape[0], bool)
            return Superposed(x, none, none, jnp.zeros((x.shape[0], 2), jnp.int32))
        # The K draws use other keys: `split` gives what `fold_in` gives for 0 to K - 1.
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, self.recipe.num_draws)
        key_chosen, key_shift = jax.vmap(jax.random.split)(keys).T
        chosen = jax.vmap(jax.random.uniform)(key_chosen) < share
        covered = covered_pixels(self.model.bind(state.variables), x)
        axis_name, overlap = self.model.axis_name, self.recipe.overlap
        return superpose(x, covered, chosen, key_shift, axis_name, touching, overlap)

    def apply(
        self, state: TrainState, params: Variables, forward: Callable[[LAVAE], Any]
    ) -> tuple[Any, Variables]:
        """Applies a function of the bound model; also returns the batch statistics."""
        result, updates = nn.apply(forward, self.model, mutable=["batch_stats"])(
            {"params": params, "batch_stats": state.batch_stats}
        )
        return result, {**state.batch_stats, **updates.get("batch_stats", {})}

    def average(self, tree: Any) -> Any:
        """Averages arrays over devices."""
        axis_name = self.model.axis_name
        return tree if axis_name is None else lax.pmean(tree, axis_name)

    def update(
        self, state: TrainState, grads: Parts, batch_stats: Variables
    ) -> TrainState:
        """Updates the parts that have a gradient, averaged over devices."""
        params, opt_state = self.optimizer.update(
            self.average(grads), state.opt_state, state.params, state.step
        )
        return state._replace(
            params=params, batch_stats=batch_stats, opt_state=opt_state
        )
