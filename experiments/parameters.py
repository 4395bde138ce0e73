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
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(params[name]))
        for name in ("location_net", "appearance_net", "f_sprite", "prior_n_logits")
    }
    parts = {
        "location inference": sizes["location_net"] + sizes["prior_n_logits"],
        "appearance inference": sizes["appearance_net"],
        "sprite generation": sizes["f_sprite"],
    }
    total = sum(parts.values())
    rows = [Part(name, size, size / total) for name, size in parts.items()]
    return [*rows, Part("total", total, 1.0)]


def main() -> None:
    """Prints the table of the config named on the command line."""
    with cli.user_errors(ValueError):
        parts = count_parameters(flags.FLAGS.config)
    table = Table("part", "parameters", "share")
    for part in parts:
        table.add_row(part.name, f"{part.parameters:,}", f"{part.share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    cli.define_config()
    cli.run(main)
