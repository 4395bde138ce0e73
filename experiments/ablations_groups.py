"""What ablations are compared in, and the settings that they change."""

from experiments.ablations_settings import Group, OfRun, Setting

BASE = Setting("base", None, "How much do seeds alone change?", {}, (0, 1, 2))
"""The recipe as it is."""

WARMUP = Group("warmup", "Warm-up and refinement", BASE)
PLACES = Group("places", "Bumps and sites", BASE)
NETWORKS = Group("networks", "Networks", BASE)
OPTIMISER = Group("optimiser", "Optimiser", BASE)
EPSILON = Group("epsilon", "ε of the likelihood at the start", BASE)
UPDATES = Group("updates", "What is trained when", BASE)

_NO_REFINEMENT = {
    "warmup.refine": False,
    # As long as h_loc is taught, and refinement does not do it, this VAE has to.
    "warmup.auxiliary_steps": OfRun(1.0),
    "warmup.location_weight_final": 0.0,
}
UNREFINED = Setting(
    "unrefined",
    WARMUP,
    "What if the regression of h_loc fades out, as in the paper, instead of going"
    " on with refined targets?",
    _NO_REFINEMENT,
    (0, 1),
)
TARGET = Group(
    "target",
    "Target of the warm-up and draws from the proposal, without refinement",
    UNREFINED,
)
ONE_UPDATE = Setting(
    "one-update",
    UPDATES,
    "What if h_app and f_sprite are updated once a step, as in the paper?",
    {"warmup.appearance_updates": 1},
    (0, 1),
)
IMPORTANCE = Setting(
    "importance",
    UPDATES,
    "What if the last fourth trains all but h_loc, on an importance-weighted bound?",
    {"importance.steps": OfRun(1 / 4)},
)
BOUND = Group("bound", "Objective of the last steps", IMPORTANCE)
APPEARANCE = Group(
    "appearance", "h_app at every site, with one update per step", ONE_UPDATE
)
TRUNK_UNREFINED = Setting(
    "trunk-unrefined",
    APPEARANCE,
    "And without refinement, which draws other than modes exclude?",
    {"model.appearance_net": "trunk", **_NO_REFINEMENT, "warmup.tau_steps": OfRun(1.0)},
    (0, 1),
)
DRAWS = Group("draws", "Draws of the locations", TRUNK_UNREFINED)
RELAXED = Setting(
    "relaxed",
    DRAWS,
    "What do the paper's relaxed draws bring, against modes?",
    {"warmup.draws": "relaxed"},
    (0, 1),
)
TEMPERATURE = Group("temperature", "Temperature of relaxed draws", RELAXED)
