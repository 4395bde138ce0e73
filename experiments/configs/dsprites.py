"""Configures multi-dSprites, Section 3.2.

`dsprites.py` or `dsprites.py:paper` is Appendix B, for an accelerator.
`dsprites.py:laptop` is for 2 CPU cores, and `dsprites.py:tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "paper") -> ConfigDict:
    """Returns the config of a variant; the base settings are for multi-dSprites."""
    config = base.variant(variant)
    if variant == "tiny":
        config.data.name = "multi_dsprites/tiny"
    return config
