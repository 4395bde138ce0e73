"""JAX_ENABLE_X64=1 changes nothing but the types of numbers that users bring along.

This file is also the program of the process that sets it: python -m tests.test_x64
"""

import json

import jax
import numpy as np
import pytest

import lavae_jax
from experiments.benchmark import find_phases
from experiments.configs import baseline, dsprites, mnist_1k
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


def trace(config) -> int:
    """Traces the train steps of all phases of a run, which keep the state's dtypes."""
    experiment = build.build(config)
    state = jax.eval_shape(experiment.init, jax.random.key(0))
    shape = (config.batch_size, *config.model.image_shape)
    phases = find_phases(experiment.train_step_at, config.num_steps)
    for phase in phases:
        images = jax.ShapeDtypeStruct(shape, np.uint8)
        after, _ = jax.eval_shape(phase.train_step, state, images)
        # A state of other dtypes would be compiled for, and stored, anew.
        dtypes = [jax.tree.map(lambda x: x.dtype, one) for one in (state, after)]
        assert dtypes[0] == dtypes[1]
    return len(phases)


def test_with_64_bits():
    """A released model counts, places and measures as it does without 64 bits.

    Every step of the laptop, the paper and the baseline keeps the types of a state.
    """
    done = run_python("-m", "tests.test_x64", JAX_ENABLE_X64="1", PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not jax.config.jax_enable_x64
    expected = measured()
    assert found["model"].pop("bound") == pytest.approx(expected.pop("bound"), rel=1e-4)
    assert found["model"] == expected
    assert found["phases"] == [4, 3, 1]


if __name__ == "__main__":
    configs = (
        mnist_1k.get_config("laptop"),
        dsprites.get_config("paper"),
        baseline.get_config("dsprites:laptop"),
    )
    print(json.dumps({"model": measured(), "phases": [trace(c) for c in configs]}))
