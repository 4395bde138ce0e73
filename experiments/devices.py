"""One device with `jax.jit`, or several with `jax.pmap`: the same steps on both."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

AXIS = "batch"
"""The name of the axis over devices inside a step on several."""


class Devices:
    """Where a run takes place, in this process.

    On several devices the state is there once per device, all the same, and every
    device takes its share of the batch.

    Args:
      devices: Some of `jax.local_devices()`, by default all.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self.devices = tuple(devices or jax.local_devices())

    @property
    def axis_name(self) -> str | None:
        """The axis a step must average over, None on one device."""
        return AXIS if self._several else None

    def __str__(self) -> str:
        return f"{len(self.devices)} x {self.devices[0].device_kind}"

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a train step; its first argument, the state, is used up.

        Args:
          step: From a state and the images of one device to a state and metrics, the
            same on every device. It averages over `axis_name` where there is one.

        Returns:
          The same from a state that has been `place`d, and images that have been
          `share`d.
        """
        if self._several:
            return jax.pmap(step, AXIS, devices=self.devices, donate_argnums=0)
        return jax.jit(step, donate_argnums=0)

    def place(self, state: Any) -> Any:
        """Copies a state of NumPy or other arrays to the devices."""
        if not self._several:
            # A copy, because the buffers of what was passed in must outlive the step.
            return jax.tree.map(
                lambda x: jax.device_put(x, self.devices[0], may_alias=False), state
            )
        copy = jax.pmap(lambda _, x: x, in_axes=(0, None), devices=self.devices)
        return copy(np.arange(len(self.devices)), state)

    def share(self, images: np.ndarray) -> np.ndarray:
        """Lays out [B, ...] as one device takes it, or [devices, B / devices, ...]."""
        if self._several:
            return images.reshape(len(self.devices), -1, *images.shape[1:])
        return images

    def one(self, tree: Any) -> Any:
        """What one device holds of a state or of metrics."""
        return jax.tree.map(lambda x: x[0], tree) if self._several else tree

    @property
    def _several(self):
        return len(self.devices) > 1
