"""Configures coloured multi-dSprites, which are not in the paper.

Objects have any colours, hide each other, and lie before grey of any level.
`coloured.py` or `coloured.py:laptop` is for 2 CPU cores, and `coloured.py:tiny` is for
tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "laptop") -> ConfigDict:
    """Returns the config of a variant."""
    config = of_many_values(base.variant(variant))
    config.data.name = "multi_dsprites/coloured"
    if variant == "tiny":
        config.data.name = "multi_dsprites/coloured_tiny"
    config.model.objects_per_image = 2.5
    return config


def of_many_values(config: ConfigDict) -> ConfigDict:
    """Changes a config for binary pixels into one for pixels of many values."""
    model, elbo = config.model, config.elbo
    model.update(pixels="gaussian", compositing="alpha", background="smooth")
    # Densities have far larger gradients than probabilities of binary pixels.
    config.optimizer.clip_norm = 1e5
    elbo.update(superpose=0.0, superpose_appearance=0.0, wake_weight=0.0)
    # The background has to be learned before the map shows objects alone.
    if 1 < config.warmup.auxiliary_steps < 600:
        config.warmup.auxiliary_steps = 600
    return config
