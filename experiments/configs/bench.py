"""The test bench, 32×32 scenes: `--config=experiments/configs/bench.py[:VARIANT]`.

Here the effects of single settings are measured, in minutes on one core:
`experiments/ablations.py` changes them one by one. `laptop` (the default) has the
networks and the schedule of the released models, and `paper` those of Appendix B with
fewer channels, both reduced for a quarter of the pixels. `tiny` is for tests.
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "laptop") -> ConfigDict:
    """The config of a variant, as `base` has it but for sizes and lengths."""
    config = base.variant(variant)
    config.data.name = "multi_dsprites/bench"
    model, warmup = config.model, config.warmup
    model.image_shape = (32, 32, 3)
    model.app_dim = 16
    model.sprite_size = 13  # the largest objects and a pixel around them
    model.glimpse_size = 15
    model.gamma = 3.5  # log(32²) / 2, as 4 is about log(64²) / 2
    model.count_threshold = 14.0  # 4γ
    model.stem_stride = 1  # h_loc then sees 23 px; objects have up to 11
    warmup.object_size = 11
    warmup.bump_sigma = 1.7
    if variant == "tiny":
        return config

    config.num_steps = 5_000
    config.log_every = 100
    config.eval_every = 500
    config.picture_every = 2_500
    config.checkpoint_every = 1_000
    config.data.num_valid = 2_000
    config.batch_size = 16
    model.channels = 16
    model.width = 128
    warmup.auxiliary_steps = 400
    warmup.guided_steps = 200
    # τ and the paper's decay of the rate of h_loc reach their ends with the run.
    elbo_steps = config.num_steps - warmup.auxiliary_steps - warmup.guided_steps
    config.elbo.tau_steps = elbo_steps
    config.optimizer.location_decay_steps = elbo_steps
    if variant == "laptop":
        config.tighten.steps = 500
    return config
