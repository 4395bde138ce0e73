"""Counts what a train step computes, moves and exchanges, without running it."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import benchmark_phases, build, cli, input_pipeline
from lavae_jax import slots
from lavae_jax.config import is_baseline
from lavae_jax.training.optimizer import split


class Count(NamedTuple):
    """What XLA counts in a step on one device, rounded as it is printed."""

    gflop: float
    gigabytes: float


class Exchange(NamedTuple):
    """What a step exchanges between devices.

    Attributes:
      parameters: How many have gradients, which are averaged.
      sums: How many sums are made one after the other, those of batch statistics too.
    """

    parameters: int
    sums: int


class Counter:
    """Counts the steps of a config.

    Args:
      config: A run's config.

    Raises:
      cli.UserError: For one that nothing can be counted of.
    """

    def __init__(self, config: ConfigDict):
        if is_baseline(config):
            raise cli.UserError("the baseline has no phases: take a config of LAVAE.")
        input_pipeline.check_shape(config)
        self._config = config.copy_and_resolve_references()
        with cli.user_errors(ValueError):
            self._experiment = build.build(self._config)
        phases = benchmark_phases.occurring(config)
        self.phase = max(phases, key=lambda phase: phase.num_steps)
        self._state = jax.eval_shape(self._experiment.init, jax.random.key(0))

    def count(self, num_images: int) -> Count:
        """Counts the step of one device with so many images.

        Of the two buffers for sprites XLA counts the larger one, for every slot, which
        few steps need: the smaller one is put in its place.
        """
        step = self._experiment.train_step_at(self.phase.first_step)
        model = self._experiment.model
        every_slot = num_images * model.max_objects
        few_slots = slots.capacity_for(
            num_images, model.max_objects, model.objects_per_image
        )
        gflop, gigabytes = _cost(step, self._state, self._images(num_images))
        if few_slots < every_slot and self.phase.phase.lavae:
            more, less = (self._sprites(num) for num in (every_slot, few_slots))
            gflop += less.gflop - more.gflop
            gigabytes += less.gigabytes - more.gigabytes
        return Count(round(gflop, 1), round(gigabytes, 2))

    def exchange(self) -> Exchange:
        """What devices tell each other, whatever the batch."""
        phase, parts = self.phase.phase, split(self._state.params)
        trained = [
            parts.location if phase.lavae and phase.location else {},
            parts.rest if phase.lavae else {},
            parts.auxiliary if phase.auxiliary else {},
        ]
        step = build.build(self._config, "batch").train_step_at(self.phase.first_step)
        traced = jax.make_jaxpr(step, axis_env=[("batch", 2)])(
            self._state, self._images(1)
        )
        parameters = sum(leaf.size for leaf in jax.tree.leaves(trained))
        return Exchange(parameters, sum(1 for _ in _sums(traced.jaxpr)))

    def _sprites(self, num):
        """f_sprite for so many slots, with its gradient."""
        model, variables = self._experiment.model, self._state.variables
        own = {kind: values.get("f_sprite", {}) for kind, values in variables.items()}

        def decode(variables, z_app, valid):
            def sprites(params, z_app):
                variables_now = variables | {"params": params}
                painted, _ = model.f_sprite.apply(
                    variables_now, z_app, valid, True, mutable=["batch_stats"]
                )
                return painted

            painted, pull_back = jax.vjp(sprites, variables["params"], z_app)
            return pull_back(painted)

        return _cost(
            decode,
            own,
            jax.ShapeDtypeStruct((num, model.app_dim), np.float32),
            jax.ShapeDtypeStruct((num,), bool),
        )

    def _images(self, num):
        return jax.ShapeDtypeStruct((num, *self._config.model.image_shape), np.uint8)


def _cost(function, *shapes):
    """What XLA counts in a function of arrays of these shapes."""
    lowered = jax.jit(function).lower(*shapes)
    # It is not run, so that the last of the compiler's work can be saved.
    compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
    cost = compiled.cost_analysis()
    return Count(cost["flops"] / 1e9, cost["bytes accessed"] / 1e9)


def _sums(jaxpr) -> Iterator[str]:
    """The sums over devices inside."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith(("psum", "pmax")):
            yield eqn.primitive.name
        for value in jax.tree.leaves(list(eqn.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _sums(inner)
