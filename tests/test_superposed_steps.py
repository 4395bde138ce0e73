"""Steps with superposed scenes and proposals, and the stage before they overlap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lavae_jax.training import step
from tests.tiny_steps import (
    AUXILIARY,
    OPTIMIZER,
    PLAIN,
    RECIPE,
    SCHEDULES,
    changed,
    compiled_step,
    make_images,
    make_model,
    start_state,
)

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def test_superposed_scenes():
    """The step sees what `superpose` makes, and p(n) learns nothing from it."""
    always, images = PLAIN._replace(superpose=1.0), make_images()
    start, x = start_state(), images.astype(np.float32) / 255
    setup = step.Setup(make_model(), AUXILIARY, OPTIMIZER, SCHEDULES, always)
    keys = setup.keys(start, 0, len(x))
    scenes = jax.jit(setup.superposed, static_argnums=(2, 3))(start, x, 1.0, True, keys)
    assert scenes.chosen.all()
    assert scenes.superposed.any() and scenes.shift.any()
    superposed, found = compiled_step(always, "elbo")(start, images)
    plain, expected = compiled_step(PLAIN, "elbo")(start, scenes.x)
    assert expected.kl_n > 0 == found.kl_n
    for name in ("log_px", "kl_app", "kl_loc", "objects"):
        value = float(getattr(expected, name))
        assert getattr(found, name) == pytest.approx(value, rel=1e-5), name
    before, after, other = (s.params["lavae"] for s in (start, superposed, plain))
    assert not any(changed(before["prior_n_logits"], after["prior_n_logits"]))
    assert all(changed(before["prior_n_logits"], other["prior_n_logits"]))
    for part in ("f_sprite", "appearance_net"):
        assert all(changed(before[part], after[part]))


def test_an_earlier_stage_keeps_objects_apart():
    """`apart` is `elbo` with another radius, no overlaps, and no further object."""
    plain = PLAIN._replace(superpose=1.0, wake_weight=0.5, wake_one_more=False)
    recipe = plain._replace(apart_steps=1, apart_radius=4, overlap=9)
    recipe = recipe._replace(wake_one_more=True)
    apart, _ = compiled_step(recipe, "apart")(start_state(), make_images())
    wide = compiled_step(plain, "elbo", exclusion_radius=4)
    expected, _ = wide(start_state(), make_images())
    jax.tree.map(np.testing.assert_array_equal, apart.params, expected.params)
    for other in (
        compiled_step(plain, "elbo"),
        compiled_step(recipe._replace(overlap=0), "elbo", exclusion_radius=4),
        compiled_step(recipe._replace(wake_one_more=False), "elbo", exclusion_radius=4),
    ):
        params = other(start_state(), make_images())[0].params
        assert any(changed(params, expected.params))


def test_the_share_of_superposed_scenes():
    """Half of 320 scenes are superposed, within 4 deviations, drawn anew in each step.

    Where p(n) is uniform, the scenes that it learns from cost log(M + 1) each.
    """
    one_step, start = compiled_step(RECIPE, "elbo"), start_state()
    lavae = start.params["lavae"]
    uniform = jnp.zeros_like(lavae["prior_n_logits"])
    params = {**start.params, "lavae": {**lavae, "prior_n_logits": uniform}}
    shares = []
    for k in range(80):
        state = start._replace(step=jnp.array(k), params=params)
        shares.append(1 - one_step(state, make_images())[1].kl_n / np.log(6))
    assert abs(np.mean(shares) - 0.5) < 4 * 0.5 / 320**0.5
    assert len(set(np.round(shares, 3).tolist())) > 2
