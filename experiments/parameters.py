"""Prints how many parameters each part of a model has.

python -m experiments.parameters --config=experiments/configs/dsprites.py
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from experiments import build, cli, limits
from experiments.own import data as own_data
from lavae_jax.config import is_baseline

_LAVAE = {
    "location inference": ("location_net", "prior_n_logits"),
    "appearance inference": ("appearance_net",),
    "sprite generation": ("f_sprite",),
}
_BASELINE = {"encoder": ("encoder",), "decoder": ("decoder",)}


class Part(NamedTuple):
    """A part of the model, its number of parameters, and their share of all."""

    name: str
    parameters: int
    share: float


def count_parameters(config: ConfigDict) -> list[Part]:
    """Counts the parameters of each part of a config's model, without computing any.

    The logits of p(n) are counted with location inference.

    Args:
      config: A run's config.

    Returns:
      The parts, then all of them as "total".

    Raises:
      ValueError: For values that no model can be built from.
    """
    limits.check(config)
    model = build.build_model(config)
    images = jax.ShapeDtypeStruct((1, *model.image_shape), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    names = _BASELINE if is_baseline(config) else _LAVAE
    parts = {
        part: sum(leaf.size for name in of_it for leaf in jax.tree.leaves(params[name]))
        for part, of_it in names.items()
    }
    total = sum(parts.values())
    rows = [Part(name, size, size / total) for name, size in parts.items()]
    return [*rows, Part("total", total, 1.0)]


def main() -> None:
    """Prints the table of the config named on the command line."""
    config = flags.FLAGS.config
    with cli.user_errors(ValueError, OSError):
        if own_data.is_own(config):
            config = own_data.fit(config, own_data.read(config)).config
        parts = count_parameters(config)
    table = Table("part", "parameters", "share")
    for part in parts:
        table.add_row(part.name, f"{part.parameters:,}", f"{part.share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    cli.define_config()
    cli.run(main)
