"""The state of a run: everything that it needs to be continued."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from lavae_jax.model import LAVAE
from lavae_jax.training.optimizer import Optimizer, Parts, split
from lavae_jax.types import Array, Variables
from lavae_jax.warmup import AuxiliaryVAE


class TrainState(NamedTuple):
    """The state of a run.

    Attributes:
        step: [] int32, the number of steps made.
        params: {"lavae": ..., "auxiliary": ...}, or the parameters of the baseline.
        batch_stats: of the model; empty where it has no batch normalisation.
        opt_state: of the optimiser.
        key: [], a random key; step and image are folded in for every draw.
    """

    step: Array
    params: Variables
    batch_stats: Variables
    opt_state: Any
    key: Array

    @property
    def variables(self) -> Variables:
        """Returns the variables that the functions of the model take."""
        params = self.params.get("lavae", self.params)
        return {"params": params, "batch_stats": self.batch_stats}


def init_variables(module: nn.Module, key: Array, *inputs: Any) -> Variables:
    """Initialises a module by a key and inputs.

    Each of its many random numbers is drawn once, so on a CPU they are not worth the
    time to make them fast. JAX accepts such an option at top level only.
    """
    options = {"xla_backend_optimization_level": 0}
    if isinstance(key, jax.core.Tracer) or jax.default_backend() != "cpu":
        options = None
    return jax.jit(module.init, compiler_options=options)(key, *inputs)


def init_state(
    model: LAVAE, auxiliary: AuxiliaryVAE, optimizer: Optimizer, key: Array
) -> TrainState:
    """Makes a fresh state of LAVAE and the auxiliary VAE, from a single key."""
    key_model, key_auxiliary, key_run = jax.random.split(key, 3)
    x = jnp.zeros((1, *model.image_shape), jnp.float32)
    variables = init_variables(model, key_model, x)
    auxiliary_variables = init_variables(auxiliary, key_auxiliary, x, key_model[None])
    params = {"lavae": variables["params"], "auxiliary": auxiliary_variables["params"]}
    return fresh_state(variables, params, optimizer, key_run)


def fresh_state(
    variables: Variables,
    params: Variables,
    optimizer: Optimizer | optax.GradientTransformation,
    key: Array,
) -> TrainState:
    """Makes a state at step 0 from the model's variables and all that is trained."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        key=key,
    )


def restart_moments(state: TrainState, optimizer: Optimizer, after: int) -> TrainState:
    """Resets the optimiser's moments of LAVAE's parts, in a state with `after` steps.

    Adam's moments are averages over the gradients so far. Where the next objective has
    gradients many times larger, its first updates would be many times too large. A
    state with another number of steps stays as it is.
    """

    def restart(params, old):
        fresh, is_due = optimizer.transform.init(params), state.step == after
        return jax.tree.map(lambda a, b: jnp.where(is_due, a, b), fresh, old)

    restarted = Parts(*map(restart, split(state.params), state.opt_state))
    restarted = restarted._replace(auxiliary=state.opt_state.auxiliary)
    return state._replace(opt_state=restarted)
