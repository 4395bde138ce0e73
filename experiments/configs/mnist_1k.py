"""Configures multi-MNIST-1k, Section 3.1.

`mnist_1k.py` or `mnist_1k.py:paper` is Appendix B, for an accelerator.
`mnist_1k.py:laptop` is for 2 CPU cores, and `mnist_1k.py:tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "paper") -> ConfigDict:
    """Returns the config of a variant."""
    return base.mnist(variant, "1k")
