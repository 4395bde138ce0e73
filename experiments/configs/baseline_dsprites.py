"""The baseline on multi-dSprites, Appendix B.

`--config=experiments/configs/baseline_dsprites.py[:VARIANT]`: `paper` (the default) is
the appendix, for an accelerator. `laptop` is for 2 CPU cores. `tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import baseline, dsprites


def get_config(variant: str = "paper") -> ConfigDict:
    """The config of a variant, on the same data as LAVAE's."""
    return baseline.variant(variant, dsprites.get_config(variant))
