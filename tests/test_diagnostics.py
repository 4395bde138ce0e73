"""Each way in which a model can collapse gives a warning; a healthy one has none."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import lavae_jax
from experiments.configs import dsprites
from experiments.run import build
from lavae_jax import diagnostics, pretrained
from tests import scene_checks, tiny_models

_NUM_IMAGES = 40
_LAST_OF_H_LOC = "params/location_net/Conv_0/bias"
_LAST_OF_SPRITES = "params/f_sprite/ResidualMLP_0/Dense_3"


@pytest.fixture(scope="module")
def seen():
    """Makes a function from changes of a released model to means over test scenes."""
    model, variables = lavae_jax.load_pretrained("multi_dsprites")
    images, n = scene_checks.first_scenes("multi_dsprites", "test", _NUM_IMAGES)
    measure = jax.jit(lambda changed: diagnostics.measure(model, changed, images, n))
    flat = pretrained.flatten(variables)

    def means(changes):
        full = {name: jnp.full_like(flat[name], value) for name, value in changes}
        changed = traverse_util.unflatten_dict(flat | full, sep="/")
        return jax.tree.map(lambda x: float(np.mean(x)), measure(changed))

    return means


def test_a_released_model_is_healthy(seen):
    """A released model gives no warning, and is not near a threshold."""
    means = seen([])
    assert means.count_accuracy > 0.95
    assert max(means[1:]) < 0.05
    assert not diagnostics.warnings(means)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ([(_LAST_OF_H_LOC, -1e3)], "f_count is 0"),
        ([(_LAST_OF_H_LOC, 1e3)], "two slots"),
        (
            [(f"{_LAST_OF_SPRITES}/kernel", 0), (f"{_LAST_OF_SPRITES}/bias", 1)],
            "blank",
        ),
    ],
)
def test_a_collapsed_model(seen, changes, warning):
    """Too low or high heights of h_loc, and black or grey sprites, give warnings."""
    warnings = diagnostics.warnings(seen(changes))
    assert any(re.search(warning, text) for text in warnings), warnings


_measure = jax.jit(diagnostics.measure, static_argnums=0)


class _Corners(nn.Module):
    """Puts objects at two opposite corners of each square, as a location net."""

    @nn.compact
    def __call__(self, x, train=False):
        """Maps [B, H, W, C] to [B, H, W]."""
        lit = jnp.pad(x[..., 0], ((0, 0), (1, 1), (1, 1)))
        above, left = lit[:, :-2, 1:-1], lit[:, 1:-1, :-2]
        below, right = lit[:, 2:, 1:-1], lit[:, 1:-1, 2:]
        first = (1 - above) * (1 - left)
        last = (1 - below) * (1 - right)
        return 9 * x[..., 0] * jnp.maximum(first, last)


@pytest.mark.parametrize(("sizes", "split"), [((4, 3), 1.0), ((6, 8), 0.0)])
def test_objects_explained_by_two_slots(sizes, split):
    """Two slots nearer than half a sprite are one split object, if n̂ is too large."""
    model = tiny_models.tiny_model((20, 20, 1), sprite_size=9, max_objects=5)
    model = model.clone(location_net=_Corners())
    variables = tiny_models.random_variables(model)
    images = np.zeros((2, 20, 20, 1), np.uint8)
    for image, size in zip(images, sizes, strict=True):
        image[2 : 2 + size, 3 : 3 + size] = 255
    ones = jnp.ones(2, jnp.int32)
    seen = _measure(model, variables, images, ones)
    assert seen.split.tolist() == [bool(split)] * 2
    assert not _measure(model, variables, images, 2 * ones).split.any()
    found = diagnostics.warnings(diagnostics.Diagnosis(0.0, 0.0, 0.0, 0.0, 0.0, split))
    assert len(found) == split


class _EvenSites(nn.Module):
    """Finds squares of one pixel, but puts objects at even rows and columns only."""

    @nn.compact
    def __call__(self, x, train=False):
        """Maps [B, H, W, C] to [B, H, W]."""
        cells = nn.max_pool(x, (2, 2), strides=(2, 2))[..., 0]
        return 9 * jnp.zeros(x.shape[:3]).at[:, ::2, ::2].set(cells)


@pytest.mark.parametrize(("net", "unsteady"), [(_Corners, 0.0), (_EvenSites, 1.0)])
def test_objects_that_do_not_move_with_the_image(net, unsteady):
    """A net that sees pixels moves its objects by one; one that sees cells does not."""
    model = tiny_models.tiny_model((20, 20, 1), sprite_size=9, max_objects=5)
    model = model.clone(location_net=net())
    images = np.zeros((1, 20, 20, 1), np.uint8)
    images[0, [4, 13, 19], [8, 12, 3]] = 255  # the last one leaves at the bottom
    variables = tiny_models.random_variables(model)
    seen = _measure(model, variables, images, jnp.array([3]))
    assert seen.count_accuracy.all() and seen.unsteady.tolist() == [unsteady]
    warnings = diagnostics.warnings(jax.tree.map(lambda x: float(x[0]), seen))
    assert len(warnings) == unsteady


def test_only_after_the_warm_up():
    """No warning comes in the warm-up, where healthy models may look collapsed."""
    config = dsprites.get_config("laptop")
    collapsed = diagnostics.Diagnosis(0.25, 0.75, 0.0, 0.0, 0.0, 0.0)
    warnings = build.build(config).warnings
    last = config.warmup.auxiliary_steps + config.warmup.guided_steps
    assert not warnings(last, collapsed)
    assert len(warnings(last + 1, collapsed)) == 1
