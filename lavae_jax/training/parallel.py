"""Train steps on one device with `jax.jit`, or on several with `jax.pmap`.

The same train step runs on both, in a notebook as in `experiments.train`:

>>> import jax, optax
>>> import numpy as np
>>> import lavae_jax
>>> from lavae_jax.training import baseline, parallel
>>> devices = parallel.Devices(jax.devices()[:1])
>>> single = lavae_jax.BaselineVAE((16, 16, 1), channels=8)
>>> model = single.clone(axis_name=devices.axis_name)  # averages over devices
>>> optimizer, beta = optax.adam(1e-3), optax.constant_schedule(1.0)
>>> state = baseline.init_state(single, optimizer, jax.random.key(0))
>>> step = devices.compile(baseline.make_train_step(model, optimizer, beta))
>>> state = devices.replicate(state)
>>> images = np.zeros((8, 16, 16, 1), np.uint8)
>>> state, metrics = step(state, devices.shard(images))
>>> int(devices.unreplicate(state).step)
1

LAVAE's step comes from `lavae_jax.training.step.make_train_step` in the same way.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

AXIS = "batch"
"""The name of the axis over devices inside a step on several."""


class Devices:
    """The devices that a model is trained on.

    On several devices each holds a copy of the state and takes its share of the batch.
    With several processes, each passes in and gets back what is on its own devices.

    Args:
        devices: by default all devices of all processes; some of `jax.local_devices()`
            to train in a single process.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        # Devices are sorted by process, as images are in the batch, so that an image
        # has the same place, and the same draws, however the batch is spread.
        self.devices = tuple(
            sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
        )
        process = jax.process_index()
        self._num_local = sum(d.process_index == process for d in self.devices)
        self._compiled = {}

    @property
    def axis_name(self) -> str | None:
        """Returns the axis that a step must average over, None on one device."""
        return AXIS if self._several else None

    def __str__(self) -> str:
        processes = len({d.process_index for d in self.devices})
        where = f" in {processes} processes" if processes > 1 else ""
        return f"{len(self.devices)} x {self.devices[0].device_kind}{where}"

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a train step, once; its first argument, the state, is donated.

        Args:
            step: from a state and the images of one device to a state and metrics, the
                same on every device. It averages over `axis_name` where there is one.

        Returns:
            The same step for a state that has been `replicate`d and images that have
            been `shard`ed. It returns one copy of the metrics.
        """
        if step not in self._compiled:
            compiler = jax.jit
            if self._several:
                compiler = partial(
                    jax.pmap, axis_name=AXIS, out_axes=(0, None), devices=self.devices
                )
            self._compiled[step] = compiler(step, donate_argnums=0)
        return self._compiled[step]

    def replicate(self, state: Any) -> Any:
        """Copies a state of NumPy or other arrays to each device of this process."""
        if not self._several:
            # This copies, because the caller's buffers must outlive the step.
            return jax.tree.map(
                lambda x: jax.device_put(x, self.devices[0], may_alias=False), state
            )
        copy = jax.pmap(lambda _, x: x, AXIS, in_axes=(0, None), devices=self.devices)
        return copy(np.arange(self._num_local), state)

    def shard(self, images: np.ndarray) -> np.ndarray:
        """Splits the images [B, ...] of this process among its D devices.

        The result is [D, B / D, ...], or [B, ...] if there is one device in all.
        """
        if self._several:
            return images.reshape(self._num_local, -1, *images.shape[1:])
        return images

    def unreplicate(self, state: Any) -> Any:
        """Returns the copy of a state that this process's first device holds."""
        if not self._several:
            return state
        # Indexing the whole arrays would run a program on all of their devices.
        return _first(jax.tree.map(lambda x: x.addressable_data(0), state))

    @property
    def _several(self):
        return len(self.devices) > 1


@jax.jit
def _first(tree):
    return jax.tree.map(lambda x: x[0], tree)
