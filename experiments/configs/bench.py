"""Configures short runs on scenes of 32×32 pixels.

Here the effects of single settings are measured, in minutes on one core:
`experiments.ablations` trains the `SETTINGS` below. `laptop` (the default) has the
networks of the released models, and `paper` those of Appendix B with fewer channels,
both reduced for a quarter of the pixels. `tiny` is for tests.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(variant: str = "laptop") -> ConfigDict:
    """Returns the variant of `base`, with smaller sizes and fewer steps."""
    config = base.variant(variant)
    config.data.name = "multi_dsprites/bench"
    model, warmup = config.model, config.warmup
    model.image_shape = (32, 32, 3)
    model.app_dim = 16
    model.sprite_size = model.glimpse_size = 13  # the largest objects and a margin
    model.gamma = 3.5  # log(32²) / 2, as 4 is about log(64²) / 2
    model.count_threshold = 14.0  # 4γ
    model.stem_stride = 1  # h_loc then sees 23 px; objects have up to 11
    warmup.object_size = 11
    if variant == "tiny":
        return config

    # `paper` has one update of h_app and f_sprite in a step, and `laptop` has 19.
    config.num_steps = 700 if variant == "laptop" else 2_200
    config.update(log_every=25, eval_every=50, picture_every=250)
    config.data.num_valid = 2_000
    model.update(channels=16, width=128)
    warmup.update(auxiliary_steps=400, guided_steps=100)
    if variant == "paper":
        model.channels = 8
        # In more steps, h_loc learns the mistakes of the KL map; see TRIALS.md.
        warmup.guided_steps = 200
        # The paper's rates need more steps.
        config.optimizer.update(learning_rate=3e-3, warmup_learning_rate=3e-3)
    # τ and the paper's decay of the rate of h_loc reach their ends with the run.
    elbo_steps = config.num_steps - warmup.auxiliary_steps - warmup.guided_steps
    config.elbo.tau_steps = elbo_steps
    config.optimizer.location_decay_steps = elbo_steps
    config.tighten.steps = 0  # they take a third of a run, and hardly change counts
    return config


# Scenes stay as they are, so that nothing but the draws teaches h_loc.
_PLAIN = {"elbo.superpose": 0.0, "elbo.superpose_appearance": 0.0}
# Glimpses need exact draws, so the kinds of draws are compared with the trunk, and
# without further updates, in which its convolutions were slow; see TRIALS.md.
_SCORE = {**_PLAIN, "model.appearance_net": "trunk", "batch_size": 64}
_SCORE |= {"elbo.location_every": 1, "elbo.appearance_updates": 0}
_RELAXED = {**_SCORE, "elbo.draws": "relaxed"}

SETTINGS: dict[str, dict[str, Any]] = {
    "base": {},
    # How gradients reach h_loc.
    "score": _SCORE,
    "straight-through": {**_SCORE, "elbo.draws": "straight_through"},
    "relaxed": _RELAXED,
    "relaxed-tau-1-to-0.1": {**_RELAXED, "elbo.tau_init": 1.0, "elbo.tau_final": 0.1},
    "relaxed-draws-1": {**_RELAXED, "elbo.num_draws": 1},  # n has no gradient
    "relaxed-rate-1e-4": {**_RELAXED, "optimizer.location_learning_rate": 1e-4},
    "relaxed-rate-1e-3": {**_RELAXED, "optimizer.location_learning_rate": 1e-3},
    # What the score function averages over.
    "draws-2": {"elbo.num_draws": 2},
    "draws-8": {"elbo.num_draws": 8},
    "temperature-0": {"elbo.count_temperature": 0.0},  # f_count, as in the paper
    "temperature-4": {"elbo.count_temperature": 4.0},
    "minibatches-8": {"elbo.minibatches": 8, "elbo.appearance_updates": 72},
    # How often which part is trained, and at what rate.
    "appearance-0": {"elbo.appearance_updates": 0},
    "location-every-4": {"elbo.location_every": 4},
    "constant-rates": {
        "optimizer.decay": "constant",
        "optimizer.location_final_factor": 1.0,
    },
    # The warm-up.
    "auxiliary-100": {"warmup.auxiliary_steps": 100},
    "guided-25": {"warmup.guided_steps": 25},
    "kl-map": {"warmup.target": "kl_map"},
    # Scenes and locations.
    "radius-0": {"model.exclusion_radius": 0},
    "single-scenes": _PLAIN,
    "proposals-0": {"elbo.wake_weight": 0.0},
    "one-more": {"elbo.wake_one_more": True},
}
"""The values of `bench.py:laptop` that each setting changes, by their full names."""
