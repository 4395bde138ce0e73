"""How a model is trained, beyond its schedules, and the phases of a run."""

from typing import Literal, NamedTuple

from lavae_jax.refinement import ORPHANS
from lavae_jax.warmup import OBJECT_SIZE

Draws = Literal["relaxed", "straight_through", "mode"]
Target = Literal["kl_map", "bumps"]


class Recipe(NamedTuple):
    """How a model is trained, beyond its schedules.

    Attributes:
        draws: "relaxed", the paper's Gumbel-softmax; "straight_through", hard draws
            with its gradient; "mode", the most likely sites, which
            give h_loc no gradient.
        target: what h_loc is regressed on during the warm-up: the auxiliary VAE's KL
            map as in the paper, or bumps of equal height on its peaks.
        refine: after the warm-up, go on with bumps where the model itself would have
            its objects (`refinement`).
        bump_height: height of a bump before γ; f_count's threshold there is 4.
        auxiliary_steps: steps during which the auxiliary VAE is trained.
        lead_steps: steps for which it is trained alone, before LAVAE.
        proposal_steps: steps until which LAVAE's objects are at the KL map's peaks
            instead of draws from h_loc; 0 in the paper.
        settle_steps: steps after which h_loc is trained in some steps only.
        location_every: it is then trained in every so many steps, 1 in the paper. The
            location network is the costliest to train, and learns fastest.
        appearance_updates: updates of everything but h_loc in each step, at the same
            locations with new draws of the appearances; 1 in the paper. They cost a
            fraction of the step, most of which is h_loc's convolutions.
        joint_steps: steps after which h_loc alone is trained, on scenes whose objects
            touch (`touching`); None for never, as in the paper.
        importance_after: steps after which all but h_loc is trained, on an
            importance-weighted bound; None for never, as in the paper.
        importance_samples: its K.
        importance_elbo: the share of the ELBO in the objective of these steps.
        object_size: side of the largest objects, px: scales the lengths of the warm-up
            and the refinement.
        orphans: lit pixels in reach of no object that make one, see `refinement`.
    """

    draws: Draws
    target: Target
    refine: bool
    bump_height: float
    auxiliary_steps: int
    lead_steps: int
    proposal_steps: int
    settle_steps: int
    location_every: int
    appearance_updates: int
    joint_steps: int | None = None
    importance_after: int | None = None
    importance_samples: int = 1
    importance_elbo: float = 0.0
    object_size: int = OBJECT_SIZE
    orphans: int = ORPHANS


class Phase(NamedTuple):
    """What a step does; few combinations occur, one after the other, in a run.

    The step of a phase holds no branches around convolutions, which XLA runs many times
    slower on a CPU inside a branch.

    Attributes:
        auxiliary: whether the auxiliary VAE is trained.
        lavae: whether LAVAE is trained.
        propose: whether objects are put at the KL map's peaks.
        location: whether h_loc is trained.
        touching: whether it is trained on scenes whose objects touch, and nothing else.
        importance: whether the rest is trained on an importance-weighted bound, and
            nothing else.
    """

    auxiliary: bool
    lavae: bool
    propose: bool
    location: bool
    touching: bool = False
    importance: bool = False


def phase_at(recipe: Recipe, step: int) -> Phase:
    """The phase of a step, counted from 1.

    >>> from lavae_jax.training import recipe
    >>> laptop = recipe.Recipe(
    ...     draws="mode",
    ...     target="bumps",
    ...     refine=True,
    ...     bump_height=10.0,
    ...     auxiliary_steps=800,
    ...     lead_steps=800,
    ...     proposal_steps=1_600,
    ...     settle_steps=3_000,
    ...     location_every=2,
    ...     appearance_updates=8,
    ...     joint_steps=16_000,
    ...     importance_after=17_600,
    ... )
    >>> def names(step):
    ...     phase = recipe.phase_at(laptop, step)
    ...     return [name for name, on in phase._asdict().items() if on]
    >>> names(1)
    ['auxiliary', 'propose', 'location']
    >>> names(3_001)
    ['lavae']
    >>> names(16_001)
    ['lavae', 'location', 'touching']
    >>> names(17_601)
    ['lavae', 'importance']
    """
    if recipe.importance_after is not None and step > recipe.importance_after:
        return Phase(False, True, propose=False, location=False, importance=True)
    if recipe.joint_steps is not None and step > recipe.joint_steps:
        return Phase(False, True, propose=False, location=True, touching=True)
    return Phase(
        auxiliary=step <= recipe.auxiliary_steps,
        lavae=step > recipe.lead_steps,
        propose=step <= recipe.proposal_steps,
        location=step <= recipe.settle_steps or step % recipe.location_every == 0,
    )
