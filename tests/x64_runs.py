"""What a process with JAX_ENABLE_X64=1 computes; run by `test_x64.py`."""

import json

import jax
import numpy as np

import lavae_jax
from experiments.configs import baseline, dsprites
from experiments.run import build


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
    """Makes the last step of a run, and checks that the state keeps its dtypes."""
    experiment = build.build(config)
    images = np.random.default_rng(0).integers(2, size=(2, *config.model.image_shape))
    state = jax.jit(experiment.init)(jax.random.key(0))
    train_step = jax.jit(experiment.train_step_at(config.num_steps))
    after, metrics = train_step(state, images.astype(np.uint8))
    # A state of other dtypes would be compiled for, and stored, anew.
    dtypes = [jax.tree.map(lambda x: x.dtype, one) for one in (state, after)]
    assert dtypes[0] == dtypes[1]
    return float(metrics.loss)


if __name__ == "__main__":
    configs = (dsprites.get_config("tiny"), baseline.get_config("dsprites:tiny"))
    print(json.dumps({"model": measured(), "losses": [loss(c) for c in configs]}))
