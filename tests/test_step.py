"""The train step is the same on one device and on several, and trains by stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax import objectives, warmup
from lavae_jax.latents.locations import draw_locations
from lavae_jax.training import step, updates
from lavae_jax.training.keys import image_keys
from lavae_jax.training.optimizer import split
from lavae_jax.training.proposals import objects_of_both
from tests.tiny_steps import (
    AUXILIARY,
    GREY,
    OPTIMIZER,
    PLAIN,
    RECIPE,
    RELAXED,
    SCHEDULES,
    SHAPE,
    STAGES,
    assert_same_moves,
    changed,
    compiled_step,
    make_images,
    make_model,
    run_stages,
    start_state,
)

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def _assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found,
        expected,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_devices_make_the_same_steps(stage):
    """Parameters and all metrics are the same after a step on 4 devices and on one.

    They are equal up to the order of sums. A maximum of h_loc in an empty background
    depends on it, so no draw may count one: `RECIPE.count_temperature` is low.
    """
    images = make_images().reshape(4, -1, *SHAPE)
    several, several_metrics = compiled_step(RECIPE, stage, 4)(start_state(), images)
    one, metrics = run_stages()[stage]
    assert_same_moves(several.params, one.params, start_state().params)
    _assert_close(several_metrics, metrics)
    assert one.step == several.step == 1
    if stage == "auxiliary":
        assert metrics.elbo is None  # 0 would look like the best of a run
    else:
        assert metrics.objects > 0
    if stage == "tighten":
        assert metrics.bound > metrics.elbo


def test_devices_share_batch_statistics():
    """With the networks of `paper`, batch statistics are the same on 4 devices and one.

    So are its relaxed draws, and the parameters. Statistics of f_sprite are over
    objects alone, and a device has none: there are fewer objects than devices.
    """
    paper = dict(norm="batch", appearance_net="trunk", sprite_net="conv", sprite_size=7)
    paper |= dict(count_threshold=1.0)
    start, images = start_state(**paper), make_images()
    one, metrics = compiled_step(RELAXED, "elbo", **paper)(start, images)
    several, several_metrics = compiled_step(RELAXED, "elbo", 4, **paper)(
        start, images.reshape(4, -1, *SHAPE)
    )
    assert 0 < round(float(metrics.objects) * len(images)) < 4
    assert all(changed(start.batch_stats, one.batch_stats))
    for name in ("params", "batch_stats"):
        assert_same_moves(*(getattr(state, name) for state in (several, one, start)))
    _assert_close(several_metrics, metrics)


def test_every_stage_trains_its_parts_and_nothing_else():
    """A stage changes all its parts, and no bit of the others or of their moments."""
    trained = {
        "auxiliary": {"auxiliary"},
        "guided": {"location", "rest", "prior"},
        "elbo": {"location", "rest", "prior"},
        "tighten": {"rest", "prior"},
    }
    start = start_state()
    for stage, (after, _) in run_stages().items():
        parts = [split(state.params)._asdict() for state in (start, after)]
        moments = [state.opt_state._asdict() for state in (start, after)]
        for name in parts[0]:
            moved = changed(parts[0][name], parts[1][name])
            moved += changed(moments[0][name], moments[1][name])
            expected = name in trained[stage]
            assert all(moved) if expected else not any(moved), (stage, name, moved)


@pytest.mark.parametrize("stage", ["auxiliary", "guided"])
def test_a_background_learns_first(stage):
    """With one, the auxiliary stage also trains it, and no other part of LAVAE.

    Steps are the same on 4 devices and on one, where the auxiliary VAE sees images less
    their background.
    """
    fields = dict(**GREY, sigma=0.1, app_dim=3)
    start, images = start_state(**fields), make_images()
    one, metrics = compiled_step(PLAIN, stage, **fields)(start, images)
    several, several_metrics = compiled_step(PLAIN, stage, 4, **fields)(
        start, images.reshape(4, -1, *SHAPE)
    )
    assert_same_moves(several.params, one.params, start.params)
    _assert_close(several_metrics, metrics)
    if stage == "guided":
        assert metrics.objects > 0
        return
    assert all(changed(start.params["auxiliary"], one.params["auxiliary"]))
    for name, params in start.params["lavae"].items():
        moved = changed(params, one.params["lavae"][name])
        assert all(moved) if name == "background_net" else not any(moved), name


def test_guided_steps_begin_without_momentum():
    """The moments of LAVAE's parts restart after the auxiliary steps, and only then."""
    fields = dict(**GREY, sigma=0.1, app_dim=3)
    after, _ = compiled_step(PLAIN, "auxiliary", **fields)(
        start_state(**fields), make_images()
    )
    fresh = after._replace(opt_state=OPTIMIZER.init(after.params))
    fresh = fresh._replace(
        opt_state=fresh.opt_state._replace(auxiliary=after.opt_state.auxiliary)
    )

    def step(state):
        guided = compiled_step(PLAIN, "guided", **fields)
        return guided(state, make_images())[0].params["lavae"]

    assert not any(changed(step(after), step(fresh)))
    assert any(changed(*(step(s._replace(step=s.step + 1)) for s in (after, fresh))))


@pytest.mark.parametrize("recipe", [PLAIN, PLAIN._replace(target="kl_map")])
def test_what_h_loc_is_first_taught(recipe):
    """The loss is the squared error to the KL map or its bumps, summed over sites."""
    state, x = start_state(), make_images().astype(np.float32) / 255
    model = make_model()

    @jax.jit
    def taught(x):
        vae = {"params": state.params["auxiliary"]}
        kl_map = AUXILIARY.apply(vae, x, method="kl_map")
        centres, valid = warmup.kl_peaks(kl_map, 5, RECIPE.object_size)
        bumps = warmup.bumps(centres, valid, 10.0, RECIPE.bump_sigma, SHAPE[:2])
        h_loc = model.apply(state.variables, x, method="location_logits")
        return {"kl_map": kl_map, "bumps": bumps}, valid, h_loc

    targets, valid, h_loc = taught(x)
    assert valid.any()
    expected = np.asarray(targets[recipe.target], np.float64)
    error = ((np.float64(h_loc) / model.gamma - expected) ** 2).sum((1, 2)).mean()
    _, metrics = compiled_step(recipe, "guided")(state, make_images())
    assert metrics.location_loss == pytest.approx(error, rel=1e-4)
    assert metrics.loss == pytest.approx(0.1 * error - float(metrics.elbo), rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_further_updates_see(share):
    """Further updates see minibatches in turn, superposed or not, at likely sites.

    The sites are those after the update of h_loc. Only h_app and f_sprite are changed.
    """
    once = PLAIN._replace(superpose=1.0, superpose_appearance=share, minibatches=2)
    recipe = once._replace(appearance_updates=3)
    found, _ = compiled_step(recipe, "elbo")(start_state(), make_images())
    between, _ = compiled_step(once, "elbo")(start_state(), make_images())
    between = between._replace(step=between.step - 1)
    setup = step.Setup(make_model(), AUXILIARY, OPTIMIZER, SCHEDULES, recipe)
    images = make_images().astype(np.float32) / 255

    @jax.jit
    def seen(x, part):
        h_loc = setup.model.bind(between.variables).location_logits(x)
        keys = setup.keys(between, 1 + part, len(x))
        scenes = setup.superposed(between, x, share, True, keys)
        return scenes.x, objects_of_both(setup.model, scenes, h_loc)

    @jax.jit
    def update(state, scenes, index):
        keys = setup.keys(state, index, 4)
        return updates.appearance_update(setup, state, *scenes, keys)[0]

    expected = between
    for index, part in ((3, 0), (4, 1), (5, 0)):
        expected = update(expected, seen(images[part::2], part), index)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        found.params,
        expected.params,
    )
    before, after = (split(state.params) for state in (between, found))
    assert all(changed(before.rest, after.rest))
    for part in ("location", "prior", "auxiliary"):
        assert not any(changed(getattr(before, part), getattr(after, part)))


def test_which_images_teach_h_loc():
    """One image in `location_every` teaches all networks, others h_app and f_sprite."""
    images = make_images()
    images[1::2] = np.roll(images[1::2], 5, axis=2)
    found, _ = compiled_step(RECIPE, "elbo")(start_state(), images)
    before, after = split(run_stages()["elbo"][0].params), split(found.params)
    assert not any(changed(before.location, after.location))
    assert not any(changed(before.prior, after.prior))
    assert all(changed(before.rest, after.rest))


@pytest.mark.parametrize("stage", ["elbo", "tighten"])
def test_the_first_step_of_an_objective_has_no_momentum(stage):
    """Old moments don't affect the first step after the warm-up or with the bound."""
    first = {"elbo": RECIPE.warmup_steps, "tighten": RECIPE.tighten_after}[stage]
    one_step, fresh = compiled_step(RECIPE, stage), start_state()
    # This state has the moments of steps that were never made.
    worn = fresh._replace(opt_state=jax.tree.map(lambda a: a + 1, fresh.opt_state))
    for made in (first - 1, first, first + 1):
        a, b = (
            one_step(state._replace(step=jnp.array(made)), make_images())[0].params
            for state in (fresh, worn)
        )
        assert any(changed(a, b)) == (made != first)


def test_the_tighter_objective():
    """The loss is the stated mean of ELBO and bound, at sites drawn from q."""
    state, x = start_state(), make_images().astype(np.float32) / 255
    _, metrics = compiled_step(PLAIN, "tighten")(state, make_images())
    model = make_model()

    @jax.jit
    def expected(x):
        bound = model.bind(state.variables)
        key = jax.random.fold_in(state.key, state.step)
        key_loc, key_app = (
            image_keys(jax.random.fold_in(key, number), len(x), None)
            for number in (1, 2)
        )
        h_loc = bound.location_logits(x)
        n = bound.count(h_loc)
        locations = draw_locations(h_loc, n, 5, keys=key_loc, exclusion_radius=2)
        return objectives.importance_bound(bound, x, locations, n, key_app, 3, 1e-2)

    terms, bound = expected(x)
    assert metrics.elbo == pytest.approx(float(terms.elbo.mean()), rel=1e-4)
    assert metrics.bound == pytest.approx(float(bound), rel=1e-4)
    loss = -(0.25 * np.float64(metrics.elbo) + 0.75 * np.float64(metrics.bound))
    assert metrics.loss == pytest.approx(loss, rel=1e-5)
