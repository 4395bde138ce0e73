"""The baseline on multi-MNIST-10k, Appendix B.

`--config=experiments/configs/baseline_mnist_10k.py[:VARIANT]`: `paper` (the default) is
the appendix, for an accelerator. `laptop` is for 2 CPU cores. `tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import baseline, mnist_10k


def get_config(variant: str = "paper") -> ConfigDict:
    """The config of a variant, on the same data as LAVAE's."""
    return baseline.variant(variant, mnist_10k.get_config(variant))
