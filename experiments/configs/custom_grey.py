"""Configures your own images of many values: `custom_grey.py[:VARIANT]`.

All that `custom.py` says holds here too, but for what it says of lit pixels: objects of
any colours lie before a smooth background, and may hide each other. `laptop` (the
default) is for 2 CPU cores, and `tiny` is for tests. You have to set

- `--config.model.sprite_size`, odd: the largest object and a margin, in pixels.

All objects share a window of this size. In multi-dSprites, whose window has 21 pixels,
they are 9 to 19 pixels long and cover 38 to 185. A larger object is seen in pieces. A
much smaller one is painted as well, but in the warm-up it may share its peak in the KL
map with a neighbour, and be found only later.

You may have to set

- `--config.data.levels=LOW,HIGH`, the values of black and of white, which are 0 and 255
  for 8-bit pixels, and the least and largest value of all others.
- `--config.model.sigma`: the standard deviation of pixels around what is painted, as a
  share of these levels. The smaller it is, the more a second sprite on an object pays,
  which corrects errors of the first one; at the default of 0.05 it does where an object
  is painted badly. Raise it for noisier images.
- `--config.model.background_waves`: 1 for a background of one colour per image, and
  more for one that varies within it, with so many half periods less one.
- `--config.model.pixels`: "gaussian", or "discretised", whose nats can be compared with
  those of other models of 8-bit pixels.
"""

from ml_collections import ConfigDict

from experiments.configs import coloured, custom


def get_config(variant: str = "laptop") -> ConfigDict:
    """Returns the config of a variant; values that the images decide are None."""
    return coloured.of_many_values(custom.get_config(variant), variant)
