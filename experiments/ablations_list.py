"""The ablations of the `laptop` variants, with the paper's values among them."""

from experiments.ablations_groups import (
    APPEARANCE,
    BASE,
    BOUND,
    DRAWS,
    EPSILON,
    IMPORTANCE,
    NETWORKS,
    ONE_UPDATE,
    OPTIMISER,
    PLACES,
    RELAXED,
    TARGET,
    TEMPERATURE,
    TRUNK_UNREFINED,
    UNREFINED,
    UPDATES,
    WARMUP,
)
from experiments.ablations_settings import OfRun, Setting, Times

_IN_STEPS = (
    *("num_steps", "log_every", "eval_every", "picture_every", "checkpoint_every"),
    *("warmup.auxiliary_steps", "warmup.lead_steps", "warmup.proposal_steps"),
    *("warmup.settle_steps", "warmup.hold_steps", "warmup.fade_steps"),
    *("warmup.tau_steps", "optimizer.location_decay_steps", "optimizer.rise_steps"),
)
_RATES = tuple(
    f"optimizer.{part}learning_rate" for part in ("", "location_", "auxiliary_")
)

SETTINGS = (
    BASE,
    UNREFINED,
    Setting(
        "refined-at-once",
        WARMUP,
        "Does refinement find the objects by itself, without proposals of the"
        " auxiliary VAE?",
        {"warmup.proposal_steps": 0},
    ),
    Setting(
        "no-lead",
        WARMUP,
        "What if LAVAE is trained beside the auxiliary VAE from the first step, as in"
        " the paper?",
        {"warmup.lead_steps": 0},
    ),
    Setting(
        "force-one",
        WARMUP,
        "What if images are explained with one object at first, as in the paper?",
        {"warmup.force_one_init": 1.0, "warmup.force_one_final": 0.1},
    ),
    Setting(
        "location-weight-1",
        WARMUP,
        "What if the regression of h_loc has the paper's weight?",
        {"warmup.location_weight": 1.0, "warmup.location_weight_final": 1.0},
    ),
    Setting(
        "orphans-1",
        WARMUP,
        "What if every lit pixel that no object reaches makes one, as for multi-MNIST?",
        {"warmup.orphans": 1},
    ),
    Setting(
        "kl-map",
        TARGET,
        "What if h_loc is regressed on the paper's KL map instead of equal bumps on"
        " its peaks?",
        {"warmup.target": "kl_map"},
    ),
    Setting(
        "bumps-kept",
        TARGET,
        "And if the regression on bumps does not fade out?",
        {"warmup.location_weight_final": 0.1},
    ),
    Setting(
        "kl-map-kept",
        TARGET,
        "And if the regression on the KL map does not fade out?",
        {"warmup.target": "kl_map", "warmup.location_weight_final": 0.1},
    ),
    Setting(
        "no-proposals",
        TARGET,
        "What if objects are at the modes of h_loc from the start instead of the"
        " peaks of the KL map during the warm-up?",
        {"warmup.proposal_steps": 0},
    ),
    Setting(
        "sigma-3",
        PLACES,
        "What if bumps stay wide?",
        {"warmup.bump_sigma_final": 3.0},
    ),
    Setting(
        "sigma-1",
        PLACES,
        "What if bumps are narrow from the start?",
        {"warmup.bump_sigma_init": 1.0},
    ),
    Setting(
        "radius-0",
        PLACES,
        "What if a draw masks its own pixel alone for the next, as in the paper?",
        {"model.exclusion_radius": 0},
    ),
    Setting(
        "location-scale-1",
        PLACES,
        "What if the location net's output is not scaled up, as in the paper?",
        {"model.location_scale": 1.0},
    ),
    Setting(
        "stride-1",
        NETWORKS,
        "What do convolutions at every pixel bring, as in the paper, at four times"
        " the operations?",
        {"model.stem_stride": 1},
    ),
    Setting(
        "stride-4",
        NETWORKS,
        "Does a fourth of the convolutions' operations do?",
        {"model.stem_stride": 4},
    ),
    Setting(
        "channels-8", NETWORKS, "Does half the channels do?", {"model.channels": 8}
    ),
    Setting(
        "channels-32",
        NETWORKS,
        "What does twice the channels bring?",
        {"model.channels": 32},
    ),
    Setting(
        "hidden-24",
        NETWORKS,
        "What does the paper variant's wider end of the location net bring?",
        {"model.location_hidden": 24},
    ),
    Setting(
        "batch-norm",
        NETWORKS,
        "What does batch norm bring, as in the paper?",
        {"model.norm": "batch"},
    ),
    Setting(
        "conv-sprites",
        NETWORKS,
        "What does the paper's convolutional f_sprite bring?",
        {"model.sprite_net": "conv"},
    ),
    Setting(
        "width-128",
        NETWORKS,
        "Does half the width of h_app and f_sprite do?",
        {"model.width": 128},
    ),
    Setting(
        "width-512",
        NETWORKS,
        "What does twice the width of h_app and f_sprite bring?",
        {"model.width": 512},
    ),
    Setting(
        "adamax",
        OPTIMISER,
        "What if the optimiser is the paper's?",
        {"optimizer.name": "adamax"},
    ),
    Setting(
        "rate-1e-3",
        OPTIMISER,
        "What if h_app and f_sprite have the paper's learning rate?",
        {"optimizer.learning_rate": 1e-3},
    ),
    Setting(
        "rate-8e-3",
        OPTIMISER,
        "Do h_app and f_sprite stand a higher learning rate?",
        {"optimizer.learning_rate": 8e-3},
    ),
    Setting(
        "location-rate-5e-4",
        OPTIMISER,
        "What if the location net has the paper's learning rate?",
        {"optimizer.location_learning_rate": 5e-4},
    ),
    Setting(
        "auxiliary-rate-4e-3",
        OPTIMISER,
        "Does the auxiliary VAE stand a higher learning rate?",
        {"optimizer.auxiliary_learning_rate": 4e-3},
    ),
    Setting(
        "constant-rates",
        OPTIMISER,
        "What if learning rates do not fall along a cosine?",
        {"optimizer.decay": "constant"},
    ),
    Setting(
        "no-clipping",
        OPTIMISER,
        "What if gradients are not clipped?",
        {"optimizer.clip_norm": 1e9},
    ),
    Setting(
        "half-batch",
        OPTIMISER,
        "Does half the batch do, in the same number of steps?",
        {"batch_size": Times(1 / 2)},
    ),
    Setting(
        "batch-64",
        OPTIMISER,
        "What does the paper's batch bring, in the same number of steps?",
        {"batch_size": 64},
    ),
    Setting(
        "quarter-batch-as-many-images",
        OPTIMISER,
        "What do four times the steps bring, of a fourth of the images each, at half"
        " the learning rates?",
        {
            "batch_size": Times(1 / 4),
            **dict.fromkeys(_IN_STEPS, Times(4)),
            **dict.fromkeys(_RATES, Times(1 / 2)),
        },
    ),
    Setting(
        "epsilon-1e-6",
        EPSILON,
        "What if ε is the paper variant's from the start?",
        {"model.epsilon_init": 1e-6},
    ),
    Setting(
        "epsilon-1e-3",
        EPSILON,
        "What if ε starts a tenth as high?",
        {"model.epsilon_init": 1e-3},
    ),
    Setting(
        "epsilon-1e-1",
        EPSILON,
        "What if ε starts ten times as high?",
        {"model.epsilon_init": 0.1},
    ),
    ONE_UPDATE,
    Setting(
        "location-every-1",
        UPDATES,
        "What if h_loc is trained in every step to the end, as in the paper?",
        {"warmup.location_every": 1},
    ),
    Setting(
        "touching",
        UPDATES,
        "What if the last eighth teaches h_loc alone, with objects that touch?",
        {"touching.steps": OfRun(1 / 8)},
    ),
    IMPORTANCE,
    Setting(
        "importance-alone",
        BOUND,
        "What if nothing but the importance-weighted bound counts?",
        {"importance.elbo_share": 0.0},
    ),
    Setting(
        "importance-none",
        BOUND,
        "What if the ELBO alone counts, as before, with as many draws?",
        {"importance.elbo_share": 1.0},
    ),
    Setting(
        "trunk",
        APPEARANCE,
        "What if h_app is a second trunk, as in the paper, instead of a window around"
        " z_loc?",
        {"model.appearance_net": "trunk"},
    ),
    TRUNK_UNREFINED,
    Setting(
        "straight-through",
        DRAWS,
        "What do hard draws with a relaxed gradient bring, against modes?",
        {"warmup.draws": "straight_through"},
    ),
    RELAXED,
    Setting(
        "tau-0.5",
        TEMPERATURE,
        "What if the temperature stays where the paper's starts?",
        {"warmup.tau_final": 0.5},
    ),
    Setting(
        "tau-0.1",
        TEMPERATURE,
        "What if it is in between all along?",
        {"warmup.tau_init": 0.1, "warmup.tau_final": 0.1},
    ),
    Setting(
        "tau-0.02",
        TEMPERATURE,
        "What if it is where the paper's ends from the start?",
        {"warmup.tau_init": 0.02},
    ),
)
"""All settings, every base before what is compared with it."""
