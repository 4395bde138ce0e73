"""Counts what a train step computes, moves and exchanges, without running it."""

from typing import NamedTuple

import jax
import numpy as np
from jax.extend import core
from ml_collections import ConfigDict

from experiments import benchmark_phases, build, cli, input_pipeline
from lavae_jax import slots
from lavae_jax.config import is_baseline
from lavae_jax.training.optimizer import split

_FEW_IMAGES = (4, 8)
_FEW_SLOTS = (40, 80)
_COMPILER_OPTIONS = {
    # Nothing is run, so that the last of the compiler's work can be saved.
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
}


class Count(NamedTuple):
    """What XLA counts in a step on one device, rounded as it is printed."""

    gflop: float
    gigabytes: float


class Exchange(NamedTuple):
    """What a step exchanges between devices.

    Attributes:
      parameters: How many have gradients, which are averaged.
      sums: How many sums are made one after the other, as each waits for the last:
        those of batch statistics, forwards and backwards, then those of gradients.
    """

    parameters: int
    sums: int


class Costs(NamedTuple):
    """What steps cost, as operations and bytes, [2] each.

    Every image adds the same to a step, and every slot whose sprite is not decoded
    saves the same: the steps of a few images tell of all others.

    Attributes:
      few: Of a step of `num_few` images that decodes all slots.
      per_image: Of each image more.
      per_slot: Of the sprite of a slot.
      num_few: How many images are few.
      max_objects: Slots of an image.
      objects_per_image: Sizes the buffer of the slots that are decoded; the few batches
        that have more objects decode all.
    """

    few: np.ndarray
    per_image: np.ndarray
    per_slot: np.ndarray
    num_few: int
    max_objects: int
    objects_per_image: float

    def of(self, num_images: int) -> Count:
        """The step of one device with so many images."""
        decoded = slots.capacity_for(
            num_images, self.max_objects, self.objects_per_image
        )
        saved = num_images * self.max_objects - decoded
        found = self.few + (num_images - self.num_few) * self.per_image
        gflop, gigabytes = (found - saved * self.per_slot) / 1e9
        return Count(round(float(gflop), 1), round(float(gigabytes), 2))


class Counter:
    """Counts the steps of the longest phase of a config.

    Args:
      config: A run's config.

    Attributes:
      phase: Which phase that is.

    Raises:
      cli.UserError: For one that nothing can be counted of.
    """

    def __init__(self, config: ConfigDict):
        if is_baseline(config):
            raise cli.UserError("the baseline has no phases: take a config of LAVAE.")
        input_pipeline.check_fit(config)
        self._config = config.copy_and_resolve_references()
        phases = benchmark_phases.occurring(config)
        self.phase = max(phases, key=lambda phase: phase.num_steps)

    def costs(self) -> Costs:
        """Compiles the steps of a few images."""
        few, more = (self.counted(num) for num in _FEW_IMAGES)
        per_slot = np.zeros(2)
        if self.phase.phase.lavae:
            sprites = (self.counted_sprites(num) for num in _FEW_SLOTS)
            per_slot = _slope(*sprites, _FEW_SLOTS)
        return Costs(
            few=few,
            per_image=_slope(few, more, _FEW_IMAGES),
            per_slot=per_slot,
            num_few=_FEW_IMAGES[0],
            max_objects=self._config.model.max_objects,
            objects_per_image=self._config.model.objects_per_image,
        )

    def counted(self, num_images: int) -> np.ndarray:
        """Operations and bytes of a step that decodes all slots, as XLA counts them."""
        # A buffer for every slot: of two, in a branch each, it counts the larger.
        experiment = self._built(
            objects_per_image=float(self._config.model.max_objects)
        )
        return _cost(
            experiment.train_step_at(self.phase.first_step),
            _fresh(experiment),
            self._images(num_images),
        )

    def exchange(self) -> Exchange:
        """What devices tell each other, whatever the batch."""
        experiment, phase = self._built("batch"), self.phase.phase
        state = _fresh(experiment)
        parts = split(state.params)
        trained = [
            parts.location if phase.lavae and phase.location else {},
            parts.rest if phase.lavae else {},
            parts.auxiliary if phase.auxiliary else {},
        ]
        step = experiment.train_step_at(self.phase.first_step)
        images = self._images(_FEW_IMAGES[0])
        traced = jax.make_jaxpr(step, axis_env=[("batch", 2)])(state, images)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(trained))
        return Exchange(parameters, _sums_in_a_row(traced.jaxpr))

    def _built(self, axis_name=None, **fields):
        config = self._config.copy_and_resolve_references()
        config.model.update(fields)
        with cli.user_errors(ValueError):
            return build.build(config, axis_name)

    def counted_sprites(self, num_slots: int) -> np.ndarray:
        """Operations and bytes of f_sprite for so many slots, with its gradient."""
        experiment = self._built()
        model, variables = experiment.model, _fresh(experiment).variables
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
            jax.ShapeDtypeStruct((num_slots, model.app_dim), np.float32),
            jax.ShapeDtypeStruct((num_slots,), bool),
        )

    def _images(self, num):
        return jax.ShapeDtypeStruct((num, *self._config.model.image_shape), np.uint8)


def _fresh(experiment):
    """The shapes of a state."""
    return jax.eval_shape(experiment.init, jax.random.key(0))


def _slope(few, more, sizes):
    return (more - few) / (sizes[1] - sizes[0])


def _cost(function, *shapes):
    """What XLA counts in a function of arrays of these shapes: operations, bytes."""
    lowered = jax.jit(function).lower(*shapes)
    cost = lowered.compile(compiler_options=_COMPILER_OPTIONS).cost_analysis()
    return np.array([cost["flops"], cost["bytes accessed"]])


def _sums_in_a_row(jaxpr: core.Jaxpr, before: int = 0) -> int:
    """How many sums over devices come one after the other, from inputs to outputs.

    Sums that do not wait for each other are made together.
    """
    found = {}

    def largest(variables):
        # A number in place of a variable waits for nothing.
        names = (x for x in variables if not isinstance(x, core.Literal))
        return max((found.get(name, before) for name in names), default=before)

    for eqn in jaxpr.eqns:
        after = largest(eqn.invars)
        parts = jax.tree.leaves(list(eqn.params.values()))
        inner = (getattr(part, "jaxpr", part) for part in parts)
        inside = [_sums_in_a_row(x, after) for x in inner if isinstance(x, core.Jaxpr)]
        after = max([after, *inside]) + eqn.primitive.name.startswith(("psum", "pmax"))
        found.update(dict.fromkeys(eqn.outvars, after))
    return largest(jaxpr.outvars)
