"""The baseline on images of your own; see `custom.py`, whose model is LAVAE.

`--config=experiments/configs/baseline_custom.py[:VARIANT] --config.data.path=...`.
Height and width must be multiples of 8.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from experiments.configs import baseline, custom


def get_config(variant: str = "paper") -> ConfigDict:
    """The config of a variant, open where the images decide."""
    config = baseline.variant(variant, custom.get_config(variant))
    del config.model.image_shape
    config.model.image_shape = placeholder(tuple)
    return config
