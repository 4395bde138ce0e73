"""Configures coloured multi-dSprites, which are not in the paper.

Objects have any colours, hide each other, and lie before grey of any level.
`coloured.py` or `coloured.py:laptop` is for 2 CPU cores, and `coloured.py:tiny` is for
tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "laptop") -> ConfigDict:
    """Returns the config of a variant."""
    config = of_many_values(base.variant(variant), variant)
    config.data.name = "multi_dsprites/coloured"
    if variant == "tiny":
        config.data.name = "multi_dsprites/coloured_tiny"
    config.model.objects_per_image = 3.8  # more than 2.5, to hold superposed scenes
    if variant == "laptop":
        config.num_steps = 3_100
        config.tighten.steps = 200
        # Objects of any colour that touch are found by more features than objects of
        # the seven colours of multi-dSprites, and learned from more images.
        config.model.update(channels=32, location_hidden=32)
        config.elbo.location_every = 2
        config.optimizer.location_learning_rate = 5e-4
    return config


def of_many_values(config: ConfigDict, variant: str) -> ConfigDict:
    """Changes a variant for binary pixels into one for pixels of many values."""
    model, elbo = config.model, config.elbo
    model.update(pixels="gaussian", compositing="alpha", background="smooth")
    # Densities have far larger gradients than probabilities of binary pixels.
    config.optimizer.clip_norm = 1e5
    # Objects hide each other, up to a third of a large one.
    elbo.overlap = 40
    # The exclusion radius of 4 hides objects whose centres are nearer: in 3.6% of the
    # scenes of multi_dsprites/coloured some are, and in 1% some are within 2 pixels.
    model.exclusion_radius = model.exclusion_radius and 2
    # A learned σ becomes so small that a second sprite on an object corrects errors of
    # the first one by more nats than it costs.
    model.update(sigma=0.05, sigma_init=0.1)
    # At a weight of 30, wrong proposals outweigh the ELBO, which corrects them.
    elbo.wake_weight = min(elbo.wake_weight, 10.0)
    # Where an object is missed, the ELBO is nearly always higher with it, but h_loc has
    # no maximum there; see TRIALS.md. These proposals need no superposed scenes.
    elbo.wake_one_more = elbo.wake_weight > 0
    elbo.superpose = min(elbo.superpose, 0.5)
    if model.exclusion_radius != 0:
        # But sprites are blurred at first, and two of them, 3 or 4 pixels apart,
        # explain an object better than one; scenes that overlap repeat the mistake.
        elbo.apart_steps = min(600, config.num_steps // 4)  # fewer in `tiny`
    if variant == "laptop":
        # Objects of little contrast take longer to show in the map.
        config.warmup.auxiliary_steps = 800
        # These teach the auxiliary VAE, too: its map has peaks for more objects if it
        # sees more images.
        elbo.location_every = 4
    return config
