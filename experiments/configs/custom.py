"""Configures your own images: `--config=experiments/configs/custom.py[:VARIANT]`.

`--config.data.path=FOLDER_OR_FILE` says where they are. `paper` (the default) is
Appendix B, for an accelerator. `laptop` is for 2 CPU cores. `tiny` is for tests.
`baseline.py:custom` trains the baseline on the same images.

The images have one size. They are a folder of pictures (PNG, JPEG, TIFF, BMP) or a
file of many (`.npz`, `.npy`, HDF5) with an array `images`, [N, H, W] or [N, H, W, C],
C = 1 or 3, or a TFRecord file of the multi-object data sets, such as Tetrominoes. What
a file says about their objects is what the model is measured by: `masks` [N, H, W],
`positions` [N, M, 2] or `n` [N], see `own.images.load_truth`.
With `data.crop=64`, `data.num_crops` squares of 64×64 pixels are cut from images of any
size, even from a single one, maybe turned by right angles and mirrored (`data.turned`),
and where pixels have many values turned by any angle, scaled, and made brighter or
darker (`data.varied`); their objects are not compared with the truth, and
held-out crops overlap the others.
Of a file of many images, `data.num_images` are read, from the start; 0 reads all.
`data.num_valid` of them (a tenth, 5,000 at most), chosen at random, are held out.

The model assumes this of the images:

- Pixels are lit or not: 0 and 1, or 0 and 255, in each channel on its own, because the
  likelihood is Bernoulli; `custom_grey.py` is for other images. `data.threshold`
  binarises grey levels: values from there on are lit. Lit pixels that no object
  explains cost −log ε nats each: for noisy images raise `model.epsilon` to about the
  share of wrong pixels.
- Objects are lit on a black background, several per image and small beside it, at most
  `model.max_objects`. They may come in any colour that channels of 0 and 1 make.
- Any object fits a square of `model.sprite_size` pixels and looks alike wherever it is.
  Objects may touch, but not hide each other much.

Values that are None here are found from the images, printed before training starts, and
kept in the run's `config.json`. You may have to set these:

- `model.sprite_size`, odd: the largest object and a pixel around it. Found from
  connected groups of lit pixels, so too large where objects often touch, and too small
  where one comes in pieces.
- `model.max_objects`: the most objects that an image may have; more cost memory.
- `model.stem_stride`: the network of h_loc sees 23 px times it, which should be no less
  than an object; 1 is right for small ones.
- `warmup.object_size`: pixels of an object. All lengths of the warm-up (cells of the
  auxiliary VAE, windows around peaks) were found for objects of 19 pixels and are
  scaled by it, and in `laptop` and `tiny` `model.exclusion_radius` too.
  `model.glimpse_size` is the sprites' size.
- `model.gamma` and `model.count_threshold` = 4γ grow with the logarithm of the number
  of pixels, as in Appendix B, and need no change.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from experiments.configs import base


def get_config(variant: str = "paper") -> ConfigDict:
    """Returns the config of a variant; values that the images decide are None."""
    config = base.variant(variant)
    data = config.data = ConfigDict()
    data.name = "custom"
    data.path = ""
    data.num_images = 0
    data.threshold = 0.0  # the images are binary
    data.levels = placeholder(tuple)  # of pixels that need not be binary
    data.crop = 0  # side of squares that are cut from larger images; 0 for none
    data.num_crops = 20_000
    data.turned = False  # whether crops are turned and mirrored
    data.varied = False  # whether they also vary in angle, size and brightness
    data.only_8_bit = placeholder(bool)  # whether the images have 8 bits
    data.num_valid = placeholder(int)
    data.fingerprint = placeholder(str)  # of the images, never to be set
    open_values = {
        "model": dict(
            image_shape=tuple,
            sprite_size=int,
            gamma=float,
            count_threshold=float,
            glimpse_size=int,
            objects_per_image=float,
        ),
        "warmup": dict(object_size=int),
    }
    if variant != "paper":
        open_values["model"]["exclusion_radius"] = int
    for section, values in open_values.items():
        for name, kind in values.items():
            config[section][name] = placeholder(kind)
    return config
