"""Configures multi-MNIST-10k, Section 3.1.

`mnist_10k.py` or `mnist_10k.py:paper` is Appendix B, for an accelerator.
`mnist_10k.py:laptop` is for 2 CPU cores, and `mnist_10k.py:tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "paper") -> ConfigDict:
    """Returns the config of a variant."""
    config = base.mnist(variant, "10k")
    if variant == "laptop":
        config.num_steps = 9_500  # estimated: 210 minutes on a busy core
        config.tighten.steps = 800
        config.model.width = 512  # for ten times the digits of multi-MNIST-1k
        config.elbo.appearance_updates = 16
    return config
