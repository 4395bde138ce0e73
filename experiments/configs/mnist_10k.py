"""Multi-MNIST-10k, Section 3.1: `--config=experiments/configs/mnist_10k.py[:VARIANT]`.

`paper` (the default) is Appendix B, for an accelerator. `laptop` is for 2 CPU cores.
`tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "paper") -> ConfigDict:
    """Returns the config of a variant."""
    config = base.mnist(variant, "10k")
    if variant == "laptop":
        config.num_steps = 9_500  # about 170 minutes on one busy core
        config.tighten.steps = 800
        config.model.width = 512  # for ten times the shapes; see ABLATIONS.md
        config.elbo.appearance_updates = 16
        config.optimizer.learning_rate = 1e-3
    return config
