"""Multi-MNIST-1k, Section 3.1: `--config=experiments/configs/mnist_1k.py[:VARIANT]`.

`paper` (the default) is Appendix B, for an accelerator. `laptop` is for 2 CPU cores.
`tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "paper") -> ConfigDict:
    """Returns the config of a variant."""
    return base.mnist(variant, "1k")
