"""Configures the baseline: `--config=experiments/configs/baseline.py:DATA[:VARIANT]`.

`DATA` is `dsprites`, `mnist_1k`, `mnist_10k` or `custom`, the config of LAVAE whose
data, images and schedule of reports are used. `paper` (the default) is the β-VAE
of Appendix B, for an accelerator. `laptop` is for 2 CPU cores. `tiny` is for tests. The
height and width of your own images (`custom`) must be multiples of 8.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from experiments.configs import custom, dsprites, mnist_1k, mnist_10k

DATA = {
    "dsprites": dsprites,
    "mnist_1k": mnist_1k,
    "mnist_10k": mnist_10k,
    "custom": custom,
}


def get_config(data_and_variant: str = "") -> ConfigDict:
    """Returns a config of the baseline, such as that of `mnist_1k:laptop`.

    Raises:
        ValueError: if there is no such data or variant.
    """
    data, _, variant = data_and_variant.partition(":")
    if data not in DATA:
        raise ValueError(
            f"the baseline needs its data, baseline.py:DATA[:VARIANT]: choose DATA from"
            f" {', '.join(DATA)}; got {data!r}."
        )
    variant = variant or "paper"
    lavae = DATA[data].get_config(variant)
    config = {"paper": paper, "laptop": laptop, "tiny": tiny}[variant](lavae)
    if (data, variant) == ("mnist_1k", "laptop"):
        config.num_steps = 60_000  # about 90 minutes on one core; see TRIALS.md
        config.update(eval_every=5_000, picture_every=10_000, checkpoint_every=1_000)
    if data == "custom":
        del config.model.image_shape
        config.model.image_shape = placeholder(tuple)
    return config


def paper(lavae: ConfigDict) -> ConfigDict:
    """Returns the values of Appendix B; "open" marks what the paper does not state."""
    others = ("model", "optimizer", "warmup", "elbo", "tighten")
    config = ConfigDict({k: v for k, v in lavae.items() if k not in others})

    model = config.model = ConfigDict()
    model.kind = "baseline"
    model.image_shape = lavae.model.image_shape
    model.latent_channels = 16  # d_VAE = 16×8×8
    model.channels = 64
    model.norm = "batch"
    model.stem_stride = 2
    model.resample_size = 4  # open; gives about the paper's 1M parameters
    model.upsampling = "bilinear"
    model.epsilon = lavae.model.epsilon  # open

    lavae_alone = ("location_", "warmup_")
    values = {k: v for k, v in lavae.optimizer.items() if not k.startswith(lavae_alone)}
    config.optimizer = ConfigDict(values)

    beta = config.beta = ConfigDict()
    beta.init = 0.0
    beta.final = 1.0
    beta.steps = 100_000
    return config


def laptop(lavae: ConfigDict) -> ConfigDict:
    """Returns a config for 2 CPU cores: no convolution sees more than 16×16 sites."""
    config = paper(lavae)
    config.num_steps = 10_000
    config.batch_size = 16  # more and smaller steps learn more per image
    config.eval_every = 1_000
    config.picture_every = 2_000
    config.checkpoint_every = 500

    model = config.model
    model.norm = "none"
    model.stem_stride = 4
    model.resample_size = 2
    model.upsampling = "shuffle"

    optimizer = config.optimizer
    optimizer.learning_rate = 2e-3
    optimizer.rise_steps = 100
    optimizer.final_factor = 0.01

    config.beta.steps = 2_000
    return config


def tiny(lavae: ConfigDict) -> ConfigDict:
    """Returns a config for tests: the laptop variant, too short to learn anything."""
    config = laptop(lavae)
    runs = ("num_steps", "batch_size", "eval_every", "picture_every")
    for key in (*runs, "checkpoint_every"):
        config[key] = lavae[key]
    config.model.latent_channels = 2
    config.model.channels = 8
    config.beta.steps = 4
    return config
