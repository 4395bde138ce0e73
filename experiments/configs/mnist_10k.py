"""Multi-MNIST-10k, Section 3.1: `--config=experiments/configs/mnist_10k.py[:VARIANT]`.

`paper` (the default) is Appendix B, for an accelerator. `laptop` is for 2 CPU cores.
`tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "paper") -> ConfigDict:
    """The config of a variant, with what Appendix B says of multi-MNIST."""
    config = base.variant(variant)
    config.data.name = "multi_mnist/tiny" if variant == "tiny" else "multi_mnist/10k"
    config.model.image_shape = (64, 64, 1)
    config.model.sprite_size = 17
    if variant == "paper":
        config.optimizer.location_learning_rate = 1e-4
    return config
