"""LAVAE: scenes as sets of objects, each with a location and an appearance.

Dittadi & Winther, "LAVAE: Disentangling Location and Appearance".

>>> import jax
>>> import lavae_jax
>>> model, variables = lavae_jax.load_pretrained("multi_dsprites")
>>> images = lavae_jax.generate(model, variables, jax.random.key(1), 3) > 0.5
>>> scene = lavae_jax.infer(model, variables, images)
>>> scene.n.tolist()  # how many objects
[2, 1, 0]
>>> sorted(scene.yx[0, :2].tolist())  # where they are
[[8, 17], [35, 4]]
>>> scene.z_app.shape  # what they look like
(3, 10, 32)
>>> lavae_jax.render(model, variables, scene).shape
(3, 64, 64, 3)

With a trained model:

- `lavae_jax.pretrained`: loads released models, and models of your own runs.
- `lavae_jax.inference`: infer, render, sample and evaluate; also in `lavae_jax` itself.
- `lavae_jax.counting`: finds the objects of images of any size and number.
- `lavae_jax.editing`: scenes with objects moved, swapped, added, restyled.
- `lavae_jax.metrics`, `lavae_jax.segmentation`: how well it counts and locates.
- `lavae_jax.plotting`: pictures.

The paper's equations:

- `lavae_jax.model`: Eq. 1 and 5. `lavae_jax.objectives`: Eq. 6 and Table 1's bound.
- `lavae_jax.object_draws`: a tighter bound, of draws of each object in turn.
- `lavae_jax.latents`: Eq. 2, 3 and 7 to 11, how many objects, where, and what.
- `lavae_jax.compositing`: Eq. 4. `lavae_jax.likelihood`: Eq. 12.
- `lavae_jax.background`, `lavae_jax.blending`: for images that are not black behind
  their objects, and objects that hide each other.
- `lavae_jax.distributions`: their densities, from distrax where it can be imported.
- `lavae_jax.networks`, with `lavae_jax.blocks`, `lavae_jax.convolution` and
  `lavae_jax.slots`: Appendix B.
- `lavae_jax.baseline`: the β-VAE that LAVAE is compared with.

Training:

- `lavae_jax.training`: train steps, schedules and optimiser, on one device or several.
- `lavae_jax.warmup`: Appendix B's auxiliary VAE, which first teaches h_loc.
- `lavae_jax.diagnostics`: whether a model has collapsed.

These modules share: `lavae_jax.types`, `lavae_jax.images`, `lavae_jax.config`,
`lavae_jax.edit_checks`, `lavae_jax.released`, `lavae_jax.runs`.
"""

from lavae_jax import editing, training
from lavae_jax.baseline import BaselineVAE
from lavae_jax.config import BaselineConfig, ModelConfig, build_model
from lavae_jax.counting import FoundObjects, find_objects
from lavae_jax.inference import (
    generate,
    infer,
    log_likelihood_bound,
    log_weights,
    masks,
    reconstruct,
    render,
    sprites,
)
from lavae_jax.model import LAVAE
from lavae_jax.pretrained import load, load_pretrained
from lavae_jax.types import Scene

__version__ = "0.1.0"

__all__ = [
    "LAVAE",
    "BaselineConfig",
    "BaselineVAE",
    "FoundObjects",
    "ModelConfig",
    "Scene",
    "build_model",
    "editing",
    "find_objects",
    "generate",
    "infer",
    "load",
    "load_pretrained",
    "log_likelihood_bound",
    "log_weights",
    "masks",
    "reconstruct",
    "render",
    "sprites",
    "training",
]
