"""Configures the image of nuclei that `python -m experiments.nuclei` prepares.

It is an example of `custom_grey.py`, for 2 CPU cores, or with `:tiny` for tests. The 64
nuclei of the upper half of the image are all that it learns from: its images are crops
of this half, turned by any angle, mirrored, scaled, and made brighter or darker.
"""

from ml_collections import ConfigDict

from experiments.configs import custom_grey


def get_config(variant: str = "laptop") -> ConfigDict:
    """Returns the config of a variant."""
    config = custom_grey.get_config(variant)
    config.data.path = "runs/nuclei/train.npz"
    config.data.levels = (0.0, 235.0)  # the largest value of the image is 235
    config.data.update(crop=48, num_crops=20_000, turned=True, varied=True)
    config.model.update(sprite_size=23, max_objects=14, objects_per_image=5.0)
    config.elbo.overlap = 0  # nuclei hide little of each other
    # Nuclei have up to 19 pixels at this resolution, and lie closer than objects of
    # that size do in multi-dSprites.
    config.warmup.object_size = 17
    if variant == "laptop":
        config.update(num_steps=2_500, eval_every=200, picture_every=200)
        config.tighten.steps = 400
    return config
