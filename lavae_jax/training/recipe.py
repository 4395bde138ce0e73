"""The settings of training, apart from schedules, and the stages of a run."""

from typing import Literal, NamedTuple

from lavae_jax.warmup import OBJECT_SIZE

Draws = Literal["score", "relaxed", "straight_through"]
Target = Literal["bumps", "kl_map"]
Stage = Literal["auxiliary", "guided", "apart", "elbo", "tighten"]


class Recipe(NamedTuple):
    """Holds the settings of training, apart from schedules.

    Attributes:
        auxiliary_steps: steps that train the auxiliary VAE, and of LAVAE a background
            that is not black.
        guided_steps: steps after these that train LAVAE with its objects at the peaks
            of the auxiliary VAE's KL map, to which h_loc is regressed.
        target: what h_loc is regressed on: the KL map as in the paper, or bumps of
            equal height on its peaks.
        bump_height: height of a bump before γ; f_count's threshold there is 4.
        bump_sigma: width of a bump, px.
        location_weight: factor on the squared loss on h_loc, summed over sites.
        object_size: side of the largest objects, px; scales the lengths of the warm-up.
        draws: how the gradient of the ELBO reaches h_loc through the draws of z_loc:
            "relaxed", the paper's Gumbel-softmax; "straight_through", hard draws with
            its gradient; "score", exact draws and the score function.
        num_draws: K, draws of n and z per image in an update of h_loc.
        count_temperature: T of `counts.draw_n`; 0 for the paper's f_count.
        advantage_limit: the score function's weights are clipped at ± this, nats.
        location_every: h_loc and the auxiliary VAE learn from one in so many images.
        appearance_updates: further updates of h_app and f_sprite; 0 in the paper.
        minibatches: P, parts of the images of a step, which these updates take in turn.
        superpose: share of images that another one is added to, in updates of h_loc.
        touching: whether the added image is moved first, until objects of both touch.
        overlap: how many pixels objects of both scenes may cover.
        superpose_appearance: the same share in the further updates.
        wake_weight: factor on `proposals.wake`, by which h_loc learns the objects that
            both scenes of a superposed one have alone; 0 for no proposals.
        wake_one_more: whether these are also proposed with one more object, and the
            objects that h_loc finds in other scenes, too.
        apart_steps: number of steps after the warm-up that keep objects apart: the
            exclusion radius is `apart_radius`, superposed scenes do not overlap, and no
            further object is proposed.
        apart_radius: the exclusion radius in these steps, px.
        tighten_after: steps after which all but h_loc learns from a bound of several
            draws of z_app; None for never, as in the paper.
        tighten_draws: number of draws of that bound.
        tighten_elbo: the share of the ELBO in the objective of these steps.
    """

    auxiliary_steps: int
    guided_steps: int
    target: Target = "bumps"
    bump_height: float = 10.0
    bump_sigma: float = 3.0
    location_weight: float = 0.1
    object_size: int = OBJECT_SIZE
    draws: Draws = "score"
    num_draws: int = 4
    count_temperature: float = 2.0
    advantage_limit: float = 100.0
    location_every: int = 1
    appearance_updates: int = 0
    minibatches: int = 1
    superpose: float = 0.0
    touching: bool = True
    overlap: int = 0
    superpose_appearance: float = 0.0
    wake_weight: float = 0.0
    wake_one_more: bool = False
    apart_steps: int = 0
    apart_radius: int = 0
    tighten_after: int | None = None
    tighten_draws: int = 1
    tighten_elbo: float = 1.0

    @property
    def warmup_steps(self) -> int:
        """Returns the number of steps after which only the ELBO teaches h_loc."""
        return self.auxiliary_steps + self.guided_steps


def stage_at(recipe: Recipe, step: int) -> Stage:
    """Returns the stage that a step, counted from 1, belongs to."""
    if step <= recipe.auxiliary_steps:
        return "auxiliary"
    if step <= recipe.warmup_steps:
        return "guided"
    if recipe.tighten_after is not None and step > recipe.tighten_after:
        return "tighten"
    if step <= recipe.warmup_steps + recipe.apart_steps:
        return "apart"
    return "elbo"
