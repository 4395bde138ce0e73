"""Models that differ in their seed alone, trained by one program.

The train step of one model is mapped over all of them (`jax.vmap`): their parameters,
random keys and batches are stacked along a new axis. Each makes the steps of a run of
its own, with its own order of the data, and has a workdir of its own, from which a run
of this seed alone can go on too.

What a step decides by its data, it must compute both ways for models that decide
differently: every slot is decoded beside the few that hold an object, and sites are
drawn for all M slots (see `slots` and `locations`).
"""

import copy
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import cli
from experiments.checkpoints import Checkpoints, Restored, gone_on_alone
from experiments.devices import Devices
from lavae_jax import runs


class Single(NamedTuple):
    """The run of one seed.

    Attributes:
      config: Its config, `num_seeds` 1.
      workdir: Its folder.
      label: What lines about it begin with, where there are others.
    """

    config: ConfigDict
    workdir: pathlib.Path
    label: str


def singles(config: ConfigDict, workdir: str | pathlib.Path) -> list[Single]:
    """The runs that a config asks for, of the seeds `seed`, `seed` + 1 and so on.

    Args:
      config: Asks for `num_seeds` of them.
      workdir: Of the only one, or the folder of theirs: `seed_0` and so on.
    """
    workdir = pathlib.Path(workdir)
    if config.num_seeds == 1:
        return [Single(config, workdir, "")]
    found = []
    for seed in range(config.seed, config.seed + config.num_seeds):
        of_seed = copy.deepcopy(config)
        of_seed.update(seed=seed, num_seeds=1)
        found.append(Single(of_seed, workdir / f"seed_{seed}", f"seed {seed}: "))
    return found


def check_workdirs(singles: Sequence[Single], workdir: str | pathlib.Path) -> None:
    """Refuses to begin a run anew where it is meant to go on.

    Args:
      singles: The runs of all seeds; nothing in their folders is changed.
      workdir: What they were made from, see `singles`.

    Raises:
      cli.UserError: If the workdir is that of one run, and several are asked for, or
        the other way round; or if a seed has checkpoints, and another has never been
        begun: the first would have to go back.
    """
    workdir = pathlib.Path(workdir)
    with cli.user_errors(OSError):
        is_of_one = (workdir / "config.json").exists()
        others = sorted(path.parent.name for path in workdir.glob("seed_*/config.json"))
    if len(singles) > 1 and is_of_one and not others:
        raise cli.UserError(
            f"{workdir} holds the run of one seed: leave --config.num_seeds at 1 to go"
            " on with it, or give several another --workdir."
        )
    if len(singles) == 1 and others and not is_of_one:
        raise cli.UserError(
            f"{workdir} holds the runs of several seeds, {', '.join(others)}: go on"
            " with all by --config.num_seeds, with one in its folder, or give this run"
            " another --workdir."
        )
    if len(singles) > 1:
        _check_begun_together(singles)


def _check_begun_together(singles):
    """Refuses to begin a seed where others have checkpoints."""
    with cli.user_errors(OSError):
        steps = [max(runs.checkpoint_steps(one.workdir), default=0) for one in singles]
        begun = [(one.workdir / "config.json").exists() for one in singles]
    if any(steps) and not all(begun):
        ahead = singles[steps.index(max(steps))]
        raise gone_on_alone(ahead.workdir, max(steps), 0)


class Seeds:
    """The states of all models, on the devices of a run.

    One model is trained as it is, without the new axis.

    Args:
      devices: Where the run takes place.
      num: How many models there are.
    """

    def __init__(self, devices: Devices, num: int):
        self._devices, self._num = devices, num

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a train step; its first argument, the states, is used up.

        Args:
          step: Of one model, see `Devices.compile`.

        Returns:
          From states that have been `place`d and a batch for each model, [B, H, W, C]
          of this process, to the next states and the metrics of each model.
        """
        if self._num == 1:
            compiled = self._devices.compile(step)
        else:
            compiled = self._devices.compile(_mapped(step, self._num))

        def steps(states, batches):
            # Seeds come second, so that devices share the images of each.
            images = batches[0] if self._num == 1 else np.stack(batches, axis=1)
            states, metrics = compiled(states, self._devices.share(images))
            return states, (metrics,) if self._num == 1 else metrics

        return steps

    def place(self, states: Sequence[Any]) -> Any:
        """Copies a state for each model to the devices."""
        if self._num == 1:
            return self._devices.place(states[0])
        return self._devices.place(jax.tree.map(lambda *x: jnp.stack(x), *states))

    def each(self, states: Any) -> Sequence[Any]:
        """What one device of this process holds of the state of each model."""
        states = self._devices.one(states)
        return (states,) if self._num == 1 else _split(states, self._num)


@functools.cache
def _mapped(step, num):
    """The step of a model as one of `num` models, the same function every time."""

    def steps(states, images):
        states, metrics = jax.vmap(step, in_axes=(0, 1))(states, images)
        return states, _split(metrics, num)

    return steps


@functools.partial(jax.jit, static_argnums=1)
def _split(tree, num):
    """A tree for each model of one whose leaves have them along their first axis."""
    leaves, structure = jax.tree.flatten(tree)
    return tuple(
        jax.tree.unflatten(structure, [leaf[index] for leaf in leaves])
        for index in range(num)
    )


def restore(stores: Sequence[Checkpoints], template: Any) -> list[Restored | None]:
    """Reads the latest checkpoints, all of the same step.

    Models are stored one after the other: of a run that was killed in between, some
    have a later checkpoint than others, which is given up.

    Args:
      stores: The checkpoints of each model.
      template: See `Checkpoints.restore`.

    Returns:
      A checkpoint for each, or None for each.

    Raises:
      cli.UserError: If one can't be read, or a model has gone on without the others.
    """
    found = [store.restore(template) for store in stores]
    steps = [one.step if one else 0 for one in found]
    ahead = [index for index, step in enumerate(steps) if step > min(steps)]
    # All of them first: where one has gone on alone, none is to go back.
    for index in ahead:
        stores[index].check_before(min(steps))
    for index in ahead:
        stores[index].go_back(min(steps))
        found[index] = stores[index].restore(template)
    return found
