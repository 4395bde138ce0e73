"""What an ablation is, and the configs of its runs."""

from collections.abc import Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments import cli
from experiments.run_config import ends


class OfRun(NamedTuple):
    """A number of steps, as a share of the run's length."""

    share: float


class Times(NamedTuple):
    """A multiple of what the base has; steps and images are rounded."""

    factor: float


Value = bool | int | float | str


class Setting(NamedTuple):
    """Something to train with.

    Attributes:
      name: What `--only`, folders and tables call it.
      group: What it is compared in; None for the recipe as it is.
      question: What its runs answer.
      changes: Values of the config by their full names, on top of those of its group's
        base.
      seeds: One run for each, added to the seed of the config.
    """

    name: str
    group: "Group | None"
    question: str
    changes: Mapping[str, Value | OfRun | Times]
    seeds: tuple[int, ...] = (0,)


class Group(NamedTuple):
    """Settings that are compared with each other.

    Attributes:
      name: What its figure is called.
      title: What it is about.
      base: The setting that all of them change.
    """

    name: str
    title: str
    base: Setting


def changes(config: ConfigDict, setting: Setting) -> dict[str, Value]:
    """What a setting changes against the base of its group.

    Args:
      config: The recipe as it is, see `shortened`.
      setting: What to train with.
    """
    base = cli.flatten(_base(config, setting))

    def resolved(name, value):
        match value:
            case OfRun(share):
                return round(share * config.num_steps)
            case Times(factor):
                return type(base[name])(round(factor * base[name], 9))
        return value

    return {name: resolved(name, value) for name, value in setting.changes.items()}


def _base(config, setting):
    """The config that a setting changes."""
    if setting.group is None:
        return config.copy_and_resolve_references()
    return changed(config, setting.group.base, 0)


def changed(config: ConfigDict, setting: Setting, seed: int) -> ConfigDict:
    """The config of one run.

    Args:
      config: The recipe as it is, see `shortened`.
      setting: What to train with.
      seed: One of its seeds.
    """
    result = _base(config, setting)
    result.update_from_flattened_dict(changes(config, setting))
    result.seed = config.seed + seed
    return result


def shortened(config: ConfigDict, num_steps: int) -> ConfigDict:
    """A recipe on fewer steps.

    The warm-up keeps its length up to `warmup.proposal_steps`: so long the auxiliary
    VAE takes to find objects. What comes later keeps its place in the rest of the run,
    so that a short run ends with narrow bumps and low rates too. The steps of single
    parts, which come after all of this, are left out.

    Args:
      config: A whole run's.
      num_steps: How long the short one is.

    Raises:
      cli.UserError: If it, or the whole run, ends before the warm-up does.
    """
    warmup, start, end = (
        config.warmup,
        config.warmup.proposal_steps,
        ends(config).joint_steps,
    )
    if not start < min(num_steps, end):
        raise cli.UserError(
            f"--num_steps and --config.num_steps must be above warmup.proposal_steps ="
            f" {start}, up to which objects are where the auxiliary VAE sees them: got"
            f" {num_steps} and {end}."
        )
    scale = (num_steps - start) / (end - start)

    def moved(step):
        if step <= start:
            return step
        return start + max(1, round((step - start) * scale))

    faded = moved(warmup.hold_steps + warmup.fade_steps)
    result = config.copy_and_resolve_references()
    result.update_from_flattened_dict(
        {
            "num_steps": num_steps,
            "log_every": max(1, num_steps // 40),
            "eval_every": max(1, num_steps // 8),
            "picture_every": num_steps,
            "touching.steps": 0,
            "importance.steps": 0,
            "checkpoint_every": max(1, num_steps // 8),
            "warmup.auxiliary_steps": moved(warmup.auxiliary_steps),
            "warmup.settle_steps": moved(warmup.settle_steps),
            "warmup.hold_steps": moved(warmup.hold_steps),
            "warmup.fade_steps": faded - moved(warmup.hold_steps),
            "warmup.epsilon_steps": moved(warmup.epsilon_steps),
            "warmup.tau_steps": moved(warmup.tau_steps),
            "optimizer.location_decay_steps": moved(
                config.optimizer.location_decay_steps
            ),
        }
    )
    return result
