"""What the benchmark computes on: scenes, and a model that sees what is in them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import auto as tqdm

from datasets import scenes
from datasets.multi_dsprites import multi_dsprites_dataset_builder as dsprites
from datasets.multi_mnist import digits
from datasets.multi_mnist import multi_mnist_dataset_builder as mnist
from lavae_jax import LAVAE, warmup
from lavae_jax.images import to_float
from lavae_jax.latents import counts
from lavae_jax.training.state import TrainState

_COUNTS = (3, 1, 2, 0)  # one scene after the other; the mean is the data's, 1.5
_NUM_TAUGHT = 8
_MOST_UPDATES = 300
_LEARNING_RATE = 3e-3
_BUMP_SIGMA = 3.0


class Scenes(NamedTuple):
    """Images and where their objects are.

    Attributes:
      images: [B, H, W, C] uint8, 0 or 255.
      n: [B] int32.
      centres: [B, M, 2] float32, rows and columns, 0 beyond n.
      active: [B, M] bool.
    """

    images: np.ndarray
    n: np.ndarray
    centres: np.ndarray
    active: np.ndarray

    @property
    def site(self) -> np.ndarray:
        """[B, M] int32, the pixels that are nearest to the centres."""
        rows, columns = np.rint(self.centres).astype(np.int32).transpose(2, 0, 1)
        return rows * self.images.shape[2] + columns


def make(name: str, num_images: int, max_objects: int) -> Scenes:
    """Makes scenes of a data set without files; 3, 1, 2, 0 objects in turn.

    Scenes repeat after the eighth. Those of multi-MNIST have filled squares of the
    digits' size in place of digits, for which MNIST would have to be downloaded: what
    an object looks like does not change what it costs.

    Args:
      name: One of `datasets.load.BUILDERS`.
      num_images: B.
      max_objects: M; less than 3 leaves objects out.
    """
    square = digits.Digits(
        np.ones((1, digits.SIDE, digits.SIDE), bool), *np.zeros((3, 1), np.int32)
    )
    examples = []
    for index in range(min(num_images, _NUM_TAUGHT)):
        count = _COUNTS[index % len(_COUNTS)]
        split = scenes.Split(num_examples=0, counts=(count,), stream=0)
        if name.startswith("multi_dsprites"):
            examples.append(dsprites.scene(split, index))
        else:
            examples.append(mnist.scene(square, (mnist.SEED, 1), split, index))
    chosen = np.arange(num_images) % len(examples)
    n = np.array([example["n"] for example in examples], np.int32)[chosen]
    n = np.minimum(n, max_objects)
    active = np.arange(max_objects)[None, :] < n[:, None]
    known = min(max_objects, scenes.MAX_OBJECTS)
    centres = np.zeros((num_images, max_objects, 2), np.float32)
    centres[:, :known] = np.stack([e["centre"][:known] for e in examples])[chosen]
    return Scenes(
        images=np.stack([example["image"] for example in examples])[chosen],
        n=n,
        centres=np.where(active[..., None], centres, 0),
        active=active,
    )


def peaks(scene: Scenes, height: float) -> jax.Array:
    """A map with a peak of this height on every object: [B, H, W]."""
    size = scene.images.shape[1:3]
    centres, active = jnp.asarray(scene.centres), jnp.asarray(scene.active)
    return warmup.bumps(centres, active, height, _BUMP_SIGMA, size)


def teach(
    model: LAVAE, state: TrainState, scene: Scenes, bump_height: float
) -> TrainState:
    """Trains the location network on the scenes until it counts them right.

    The locations of a fresh model are not drawn, because it sees no objects, and cost
    nothing. It is given up after 300 updates; `objects_seen` tells what was reached.

    Args:
      model: LAVAE.
      state: A fresh state.
      scene: The scenes that steps will be timed on.
      bump_height: Height of h_loc on an object, before γ.

    Returns:
      The state with other parameters of the location network.
    """
    few = Scenes(*(field[:_NUM_TAUGHT] for field in scene))
    target = peaks(few, bump_height)
    optimizer = optax.adam(_LEARNING_RATE)

    def loss(net, state):
        h_loc = _location_logits(model, _with_net(state, net), few.images)
        error = ((h_loc / model.gamma - target) ** 2).mean()
        n = counts.f_count(h_loc, model.count_threshold, model.max_objects)
        return error, (n == few.n).all()

    @jax.jit
    def update(state, moments):
        net = state.params["lavae"]["location_net"]
        gradient, right = jax.grad(loss, has_aux=True)(net, state)
        updates, moments = optimizer.update(gradient, moments)
        return _with_net(state, optax.apply_updates(net, updates)), moments, right

    moments = optimizer.init(state.params["lavae"]["location_net"])
    for _ in tqdm.trange(_MOST_UPDATES, desc="teaching where the objects are"):
        taught, moments, right = update(state, moments)
        if right:
            break
        state = taught
    return state


def objects_seen(model: LAVAE, state: TrainState, scene: Scenes) -> float:
    """The mean number of objects that a step draws per image."""

    @jax.jit
    def count(state, images):
        h_loc = _location_logits(model, state, images)
        return counts.f_count(h_loc, model.count_threshold, model.max_objects)

    return float(count(state, scene.images).mean())


def _location_logits(model, state, images):
    """h_loc as a train step computes it."""
    h_loc, _ = model.apply(
        state.variables,
        to_float(images),
        True,
        method="location_logits",
        mutable=["batch_stats"],
    )
    return h_loc


def _with_net(state, net):
    lavae = state.params["lavae"] | {"location_net": net}
    return state._replace(params=state.params | {"lavae": lavae})
