"""Configures what the data sets share: Appendix B, and the laptop's schedule.

"Open" marks a value that the paper does not state. Some choices are not values of a
config, and hold for all variants:

- The auxiliary VAE has no batch norm. Its downsampling is at the input and once between
  its three residual blocks, where the paper has one between any two: receptive fields
  are wide, and the KL map has one clear peak per object. The map is a mean over grids
  that begin at different pixels, and over the image and the image turned by 180°.
- At the end of the warm-up, the regression of h_loc stops, where the paper fades it
  out, and n is no longer forced, where the paper goes on to force n = 1 in a tenth of
  the images. The moments of the optimisers restart, and τ and the rate of h_loc begin
  to fall.
- Open are also: f_sprite's first map of 7×7×16, its last block, which starts at 0, and
  its dark start (from grey, it learns far more slowly), the slope of leaky ReLUs
  (0.01), and the momentum of batch statistics (0.9: at 0.99, a tenth of them are still
  their initial values after 225 steps).
- log σ² of an object stays above −8, and the last layers of the inference networks
  start near 0.
- p(n) does not learn from the scenes that are chosen to be superposed.
"""

from ml_collections import ConfigDict

VARIANTS = ("paper", "laptop", "tiny")


def paper() -> ConfigDict:
    """Returns the values of Appendix B; comments give the reasons for other ones."""
    config = ConfigDict()
    config.seed = 0
    config.num_steps = 300_000  # open in the paper
    config.batch_size = 64
    config.log_every = 100
    config.eval_every = 2_000
    config.picture_every = 2_000
    config.checkpoint_every = 2_000
    config.num_eval_images = 1_000
    config.precision = "float32"  # or bfloat16, for the networks' inner layers

    config.data = _data()
    config.model = _model()
    config.optimizer = _optimizer()
    config.warmup = _warmup()
    config.elbo = _elbo()
    config.tighten = _tighten()
    return config


def _data() -> ConfigDict:
    """Returns the data set that is trained on."""
    data = ConfigDict()
    data.name = "multi_dsprites"
    data.data_dir = ""  # TFDS's default folder
    data.manual_dir = ""  # the folder of MNIST's files; empty downloads them
    data.num_valid = 5_000  # held out from training; the paper holds out none
    return data


def _model() -> ConfigDict:
    """Returns the networks and what they are built for."""
    model = ConfigDict()
    model.image_shape = (64, 64, 3)
    model.max_objects = 10  # M
    model.app_dim = 32  # L
    # Outputs of h_app beyond these limits are compressed. The paper has no limits; in
    # earlier models, single objects of crowded scenes cost thousands of nats then.
    model.mean_limit = 5.0
    model.logvar_limit = 1.0
    model.sprite_size = 21  # S
    model.gamma = 4.0
    model.count_threshold = 16.0  # 4γ
    model.channels = 48  # open; gives the paper's 500k parameters
    model.norm = "batch"
    model.stem_stride = 1
    model.location_hidden = 24  # open
    model.location_scale = 1.0
    model.appearance_net = "trunk"
    model.glimpse_size = 21  # of appearance_net=glimpse; equals sprite_size
    model.sprite_net = "conv"
    model.width = 256  # of appearance_net=glimpse and sprite_net=mlp
    model.epsilon = 1e-6  # open
    # It falls to epsilon by a constant factor per step. Wrong pixels then cost less
    # while sprites are learned, which are learned sooner; see TRIALS.md.
    model.epsilon_init = 1e-2
    model.pixels = "bernoulli"
    model.sigma = 0.0  # of other pixels, which lie in 0 to 1; 0 for a learned one
    model.sigma_init = 0.3  # falls to sigma by a constant factor per step
    model.compositing = "sum"
    model.background = "black"
    model.background_dim = 4  # of background=smooth
    model.background_waves = 1  # of background=smooth; 1 for one level per image
    model.exclusion_radius = 0
    model.location_prior = "uniform"  # or "learned"
    model.objects_per_image = 2.3  # more than 1.5, to hold superposed scenes
    return model


def _optimizer() -> ConfigDict:
    """Returns the optimisers, their learning rates, and how these fall."""
    optimizer = ConfigDict()
    optimizer.name = "adamax"
    optimizer.learning_rate = 1e-3
    optimizer.location_learning_rate = 5e-4
    optimizer.location_final_factor = 0.01
    optimizer.location_decay_steps = 100_000
    # The rate of all networks until the ELBO teaches h_loc.
    optimizer.warmup_learning_rate = 1e-3  # the paper names one rate for all steps
    # None in the paper. Adamax divides by the largest gradient so far, and the first
    # ones are so large that h_app learns nothing for long; at 100, long runs of
    # `laptop` learn less. See TRIALS.md.
    optimizer.clip_norm = 500.0
    optimizer.decay = "constant"
    optimizer.rise_steps = 0  # of decay=cosine
    optimizer.final_factor = 1.0  # of decay=cosine
    return optimizer


def _warmup() -> ConfigDict:
    """Returns the auxiliary VAE, and how it first teaches h_loc.

    The paper trains the auxiliary VAE beside LAVAE for 60,000 steps, regresses h_loc on
    its KL map, and draws one object per image for half of that time. Peaks of unequal
    height then make all draws land on one object, and the likelihood of the others
    fights the regression. Here the auxiliary VAE is trained first, alone, until its map
    has one peak per object; LAVAE then learns with its objects at these peaks.
    """
    warmup = ConfigDict()
    warmup.object_size = 19  # pixels of the largest; other lengths scale with it
    warmup.auxiliary_steps = 2_000  # 60,000 in the paper, beside LAVAE
    warmup.auxiliary_channels = 64  # open; half as many before the last downsampling
    warmup.auxiliary_latents = 8  # per cell: 11×11×8 in the paper
    # Open. In more steps, h_loc learns the mistakes of the KL map; see TRIALS.md.
    warmup.guided_steps = 1_000
    warmup.target = "bumps"  # "kl_map" in the paper, with peaks of unequal height
    warmup.bump_height = 10.0  # of target=bumps, before γ; f_count's threshold is 4
    # In pixels, of target=bumps. From wide bumps h_loc does not learn single pixels: it
    # puts objects on every second one, and f_sprite must learn each sprite at four
    # offsets. And all draws land on pixels of the highest bump; see TRIALS.md.
    warmup.bump_sigma = 1.0
    warmup.location_weight = 0.1  # open; makes this loss about as large as −ELBO
    return warmup


def _elbo() -> ConfigDict:
    """Returns how the ELBO teaches h_loc."""
    elbo = ConfigDict()
    elbo.draws = "relaxed"  # the paper's masked Gumbel-softmax
    elbo.tau_init = 0.5
    elbo.tau_final = 0.02
    elbo.tau_steps = 100_000
    elbo.num_draws = 2  # 1 in the paper, where n has no gradient
    elbo.count_temperature = 2.0  # 0 in the paper: n then has no gradient
    elbo.advantage_limit = 100.0  # nats; not in the paper, which has no score function
    elbo.location_every = 1  # h_loc learns from one in so many images of a batch
    elbo.appearance_updates = 0  # per step, of h_app and f_sprite alone
    elbo.minibatches = 1  # parts of a batch that these updates take in turn
    # Not in the paper. Of objects that touch, h_loc has a single maximum otherwise, and
    # no draw ever compares one object with two; see TRIALS.md.
    elbo.superpose = 0.5
    elbo.touching = True  # the added scene is moved until objects touch
    elbo.overlap = 0  # pixels that objects of both may cover
    elbo.superpose_appearance = 0.0  # share of images superposed in these updates
    elbo.wake_weight = 10.0  # of proposals of objects; not in the paper
    elbo.wake_one_more = False  # whether one more object is proposed, too
    elbo.apart_steps = 0  # steps after the warm-up that keep objects apart
    elbo.apart_radius = 4  # the exclusion radius in these steps
    return elbo


def _tighten() -> ConfigDict:
    """Returns the last steps, in which all but h_loc learns from a tighter bound."""
    tighten = ConfigDict()
    tighten.steps = 0
    tighten.num_draws = 8
    tighten.elbo_share = 0.1
    tighten.learning_rate = 1e-3
    return tighten


def laptop() -> ConfigDict:
    """Returns values for 2 CPU cores: light networks, exact draws, a short schedule."""
    config = paper()
    config.update(num_steps=4_600, batch_size=128)  # about 80 minutes on a busy core
    config.update(log_every=50, eval_every=500)
    config.update(picture_every=1_000, checkpoint_every=200)

    model = config.model
    model.norm = "none"  # images of a batch do not interact
    model.stem_stride = 2
    model.channels = 16
    model.location_hidden = 16
    model.location_scale = 10.0  # heights move faster at small learning rates
    model.appearance_net = "glimpse"
    model.sprite_net = "mlp"
    model.exclusion_radius = 4  # keeps two draws from landing on one object

    optimizer = config.optimizer
    # Adam and these rates learn dense networks faster.
    optimizer.update(name="adam", learning_rate=1e-3, warmup_learning_rate=2e-3)
    optimizer.location_learning_rate = 3e-4
    optimizer.update(decay="cosine", rise_steps=25, final_factor=0.02)

    # After these steps the map has one peak per object in nearly all held-out scenes.
    config.warmup.auxiliary_steps = 400
    config.warmup.guided_steps = 300

    elbo = config.elbo
    elbo.draws = "score"  # glimpses are read at single sites
    elbo.num_draws = 4
    # Appearances take longer to learn than locations: h_loc learns from few images, and
    # h_app and f_sprite from several passes over all of them.
    elbo.update(location_every=8, appearance_updates=18, minibatches=2)
    # Otherwise objects that touch are counted as one; see TRIALS.md. The share is
    # below 1, as p(n) learns only from the scenes that are not chosen for it.
    elbo.superpose = 0.9
    # Otherwise h_app and f_sprite hardly ever see objects that touch, paint them badly,
    # and the ELBO is right to prefer a third object between two.
    elbo.superpose_appearance = 0.9
    elbo.wake_weight = 30.0

    config.tighten.steps = 800  # towards the bound of many draws of Table 1
    return config


def tiny() -> ConfigDict:
    """Returns the laptop variant with a few steps, for tests: it learns nothing."""
    config = laptop()
    config.update(num_steps=6, batch_size=8, num_eval_images=16)
    config.update(log_every=2, eval_every=4, picture_every=4, checkpoint_every=4)
    config.data.num_valid = 64
    config.model.update(channels=8, location_hidden=8, width=32)
    config.warmup.update(auxiliary_steps=1, guided_steps=1)
    config.elbo.update(location_every=2, appearance_updates=3, minibatches=2)
    config.tighten.steps = 1
    return config


def variant(name: str) -> ConfigDict:
    """Returns the settings called `name`; for none of `VARIANTS`, a ValueError."""
    if name not in VARIANTS:
        raise ValueError(
            f"there is no variant {name!r} of this config: choose from"
            f" {', '.join(VARIANTS)}."
        )
    return {"paper": paper, "laptop": laptop, "tiny": tiny}[name]()


def mnist(name: str, pool: str) -> ConfigDict:
    """Returns a `variant` with what Section 3.1 and Appendix B say of multi-MNIST.

    The scenes are made of a `pool` of digits, "1k" or "10k".
    """
    config = variant(name)
    config.data.name = f"multi_mnist/{'tiny' if name == 'tiny' else pool}"
    config.model.image_shape = (64, 64, 1)
    config.model.sprite_size = config.model.glimpse_size = 17
    if name == "paper":
        config.optimizer.location_learning_rate = 1e-4
    if name != "tiny":
        # If h_loc sees many digits that touch, it counts more scenes too high.
        config.elbo.touching = False
        # At a weight of 30, wrong proposals outweigh the ELBO, which corrects them.
        config.elbo.update(wake_weight=1.0, count_temperature=1.0)
    if name == "laptop":
        # Single digits take longer to learn than dSprites. Those that f_sprite has not
        # learned well are counted as two if h_loc learns from the ELBO too early; see
        # TRIALS.md.
        config.update(num_steps=7_500, batch_size=256)  # estimated: 120 minutes
        config.tighten.steps = 600
        config.warmup.update(auxiliary_steps=800, guided_steps=400)
        config.elbo.update(location_every=16, appearance_updates=36, minibatches=4)
        # If h_app sees many digits that touch, it learns single ones more slowly.
        config.elbo.superpose_appearance = 0.3
    return config
