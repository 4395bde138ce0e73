"""The parts of a train step, each as a function that can be timed on its own."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import benchmark_data, build
from experiments.benchmark_data import Data
from lavae_jax import LAVAE, refinement, touching, warmup
from lavae_jax.latents import appearance as appearances
from lavae_jax.latents import counts
from lavae_jax.latents.locations import draw_locations
from lavae_jax.objectives import reconstruct
from lavae_jax.training import optimizer as optimizers
from lavae_jax.training.importance_step import sampled_log_weights
from lavae_jax.training.recipe import Phase
from lavae_jax.training.state import TrainState


class Part(NamedTuple):
    """A part of the train step.

    Attributes:
      name: For the table.
      run: From a state and `Data` to all that the part computes.
      times: How often a step of a phase does it.
    """

    name: str
    run: Callable[[TrainState, Data], Any]
    times: Callable[[Phase], int]


def make_parts(config: ConfigDict, model: LAVAE) -> list[Part]:
    """The parts of a config's train step.

    Where a part is trained it computes a gradient too: that of half the square of what
    it gives, which costs what any gradient costs, for its parameters and for those of
    its inputs that depend on others.

    Args:
      config: A run's config.
      model: Its model.
    """
    parts, warm = _Parts(config, model), config.warmup

    def located(phase):
        return phase.lavae and phase.location

    def drawn(phase):
        return phase.lavae and not phase.propose

    def updates(phase):
        alone = phase.touching or phase.importance
        return (phase.lavae and not alone) * warm.appearance_updates

    def touched(phase):
        return phase.touching

    def optimiser(name):
        return functools.partial(parts.optimiser, name)

    return [
        Part("location net", parts.location, located),
        Part(
            "location, forward",
            parts.location_forward,
            lambda phase: phase.lavae and (phase.touching or not phase.location),
        ),
        Part("sampling of sites", parts.sampling, drawn),
        Part("appearance net", parts.appearance, updates),
        Part("sprites", parts.sprites, updates),
        Part("compositing", parts.compositing, updates),
        Part("likelihood", parts.likelihood, updates),
        Part(
            "refinement",
            parts.refinement,
            lambda phase: warm.refine and located(phase) and drawn(phase),
        ),
        Part("objects, forward", parts.objects_forward, touched),
        Part("touching scenes", parts.touching, touched),
        Part("weighted bound", parts.bound, lambda phase: phase.importance),
        Part("auxiliary VAE", parts.auxiliary_vae, lambda phase: phase.auxiliary),
        Part(
            "KL map and peaks",
            parts.proposals,
            lambda phase: phase.lavae and (phase.auxiliary or phase.propose),
        ),
        Part("optimiser, h_loc", optimiser("location"), located),
        Part(
            "optimiser, aux. VAE",
            optimiser("auxiliary"),
            lambda phase: phase.auxiliary,
        ),
        Part(
            "optimiser, the rest",
            optimiser("rest"),
            lambda phase: updates(phase) or phase.importance,
        ),
    ]


def _with_gradient(function, *inputs):
    """The function's value, and the gradient of half its square."""
    value, pull_back = jax.vjp(function, *inputs)
    return value, pull_back(value)


class _Parts:
    """Every part as a method, from a state and data to what it computes."""

    def __init__(self, config, model):
        self._config, self._model = config, model
        self._auxiliary = build.build_auxiliary(config)
        self._optimizer = build.build_optimizer(config)

    def _apply(self, state, method, **params):
        """Calls a function of the bound model, some of its parameters replaced."""
        variables = state.variables
        variables = variables | {"params": variables["params"] | params}
        result, _ = self._model.apply(variables, method=method, mutable=["batch_stats"])
        return result

    def location(self, state, data):
        def logits(net):
            return self._apply(
                state, lambda m: m.location_logits(data.x, True), location_net=net
            )

        return _with_gradient(logits, state.params["lavae"]["location_net"])

    def location_forward(self, state, data):
        return self._apply(state, lambda m: m.location_logits(data.x, True))

    def sampling(self, state, data):
        del state
        config, model = self._config.warmup, self._model
        relaxed = benchmark_data.is_relaxed(self._config)

        def draw(h_loc):
            drawn = draw_locations(
                h_loc,
                counts.f_count(h_loc, model.count_threshold, model.max_objects),
                model.max_objects,
                keys=data.keys if relaxed else None,
                tau=jnp.asarray(config.tau_init) if relaxed else None,
                straight_through=config.draws == "straight_through",
                exclusion_radius=model.exclusion_radius,
            )
            # Sites have no gradient.
            return (drawn.entropy, drawn.z_loc) if relaxed else drawn

        return _with_gradient(draw, data.h_loc) if relaxed else draw(data.h_loc)

    def appearance(self, state, data):
        def draw(net, z_loc):
            at = data.at._replace(z_loc=z_loc)
            found = self._apply(
                state,
                lambda m: m.appearance(m.appearance_features(data.x, True), at),
                appearance_net=net,
            )
            return appearances.draw(found, data.keys), appearances.kl(found)

        net = state.params["lavae"]["appearance_net"]
        return _with_gradient(draw, net, data.at.z_loc)

    def sprites(self, state, data):
        def decode(net, z_app):
            return self._apply(
                state, lambda m: m.sprites(z_app, data.at.active, True), f_sprite=net
            )

        return _with_gradient(decode, state.params["lavae"]["f_sprite"], data.z_app)

    def compositing(self, state, data):
        del state

        def canvas(sprites, z_loc):
            return self._model.canvas(sprites, data.at._replace(z_loc=z_loc))

        return _with_gradient(canvas, data.result.sprites, data.at.z_loc)

    def likelihood(self, state, data):
        del state

        def log_likelihood(canvas):
            return self._model.log_likelihood(data.x, canvas)

        return _with_gradient(log_likelihood, data.result.canvas)

    def refinement(self, state, data):
        result = data.result._replace(locations=data.at)
        target = self._apply(
            state, lambda m: refinement.refine(m, data.x, result, m.epsilon)
        )
        size = self._model.image_shape[:2]
        return warmup.bumps(target.centres, target.valid, 1.0, 1.0, size)

    def objects_forward(self, state, data):
        n = data.at.active.sum(axis=1)
        return self._apply(
            state, lambda m: reconstruct(m, data.x, data.at, n, data.keys).canvas
        )

    def touching(self, state, data):
        del state
        width = self._model.image_shape[1]
        centres = jnp.stack([data.at.site // width, data.at.site % width], axis=-1)
        scenes = touching.Placed(data.x, centres.astype(data.x.dtype), data.at.active)
        return touching.make_touch(scenes, scenes, data.keys)

    def bound(self, state, data):
        def log_weights(rest):
            return self._apply(
                state,
                lambda m: sampled_log_weights(
                    m, data.x, data.at, data.keys, self._config.importance.num_samples
                ),
                **rest,
            )

        return _with_gradient(log_weights, optimizers.split(state.params).rest)

    def auxiliary_vae(self, state, data):
        def terms(params):
            return self._auxiliary.apply({"params": params}, data.x, data.keys)

        return _with_gradient(terms, state.params["auxiliary"])

    def proposals(self, state, data):
        variables = {"params": state.params["auxiliary"]}
        kl_map = self._auxiliary.apply(variables, data.x, method="kl_map")
        if self._config.warmup.target == "kl_map":
            return kl_map
        return warmup.kl_peaks(kl_map, self._model.max_objects)

    def optimiser(self, name, state, data):
        del data
        # Parameters have the shapes of their gradients.
        gradient = getattr(optimizers.split(state.params), name)
        gradients = optimizers.Parts(None, None, None)._replace(**{name: gradient})
        params, opt_state = self._optimizer.update(
            gradients, state.opt_state, state.params, state.step
        )
        return getattr(optimizers.split(params), name), getattr(opt_state, name)
