"""Configures Tetrominoes, which are not in the paper.

`tetrominoes.py` or `tetrominoes.py:laptop` is for 2 CPU cores, `tetrominoes.py:paper`
has the networks of Appendix B, and `tetrominoes.py:tiny` is for tests. `custom.py`
trains on the public file.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "laptop") -> ConfigDict:
    """Returns the config of a variant."""
    config = base.variant(variant)
    config.data.name = f"tetrominoes/{'tiny' if variant == 'tiny' else 'full'}"
    model = config.model
    model.image_shape = (35, 35, 3)
    # D = 1225; see `custom.py`.
    model.update(gamma=3.4, count_threshold=13.6)
    model.objects_per_image = 4.6  # more than 3, to hold superposed scenes
    if variant == "laptop":
        config.update(num_steps=4_600, eval_every=200, picture_every=400)
        # Pieces are crowded. With the lengths for objects of 19 pixels, the KL map
        # merges neighbours, and its peaks count 33% of held-out scenes right. With
        # these it is 69%, and few scenes are counted too high; see RESULTS.md.
        config.warmup.update(object_size=15, auxiliary_steps=200)
        config.data.num_valid = 2_000
    return config
