"""JAX_ENABLE_X64=1 changes nothing but the types of numbers that users bring along.

This file is also the program of the process that sets it: python -m tests.test_x64
"""

import json

import jax
import numpy as np
import pytest

import lavae_jax
from experiments.configs import baseline, dsprites
from experiments.run import build
from tests.commands import ROOT, run_python

# distrax mixes dtypes and ranks.
pytestmark = pytest.mark.standard_promotion


def measured() -> dict[str, list]:
    """Returns what a released model sees in an image of two squares, and its bound."""
    model, variables = lavae_jax.load_pretrained("multi_dsprites")
    images = np.zeros((1, *model.image_shape), np.uint8)
    images[0, 8:18, 10:20] = images[0, 40:48, 30:38] = 255
    scene = lavae_jax.infer(model, variables, images)
    bound = lavae_jax.log_likelihood_bound(
        model, variables, images, jax.random.key(0), num_samples=2
    )
    return {"n": scene.n.tolist(), "yx": scene.yx.tolist(), "bound": bound.tolist()}


def loss(config) -> float:
    """Returns the last step's loss, and checks that the state keeps its dtypes."""
    experiment = build.build(config)
    images = np.random.default_rng(0).integers(2, size=(2, *config.model.image_shape))
    state = jax.jit(experiment.init)(jax.random.key(0))
    train_step = jax.jit(experiment.train_step_at(config.num_steps))
    after, metrics = train_step(state, images.astype(np.uint8))
    # A state of other dtypes would be compiled for, and stored, anew.
    dtypes = [jax.tree.map(lambda x: x.dtype, one) for one in (state, after)]
    assert dtypes[0] == dtypes[1]
    return float(metrics.loss)


def test_with_64_bits():
    """A released model counts, places and measures as it does without 64 bits.

    Training works too: steps keep the types of a state, and losses are finite.
    """
    done = run_python("-m", "tests.test_x64", JAX_ENABLE_X64="1", PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not jax.config.jax_enable_x64
    expected = measured()
    assert found["model"].pop("bound") == pytest.approx(expected.pop("bound"), rel=1e-4)
    assert found["model"] == expected
    assert np.isfinite(found["losses"]).all()


if __name__ == "__main__":
    configs = (dsprites.get_config("tiny"), baseline.get_config("dsprites:tiny"))
    configs[0].model.objects_per_image = 10.0  # one buffer holds all slots
    print(json.dumps({"model": measured(), "losses": [loss(c) for c in configs]}))
