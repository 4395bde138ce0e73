"""One device with `jax.jit`, or several with `jax.pmap`: the same steps on both."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

AXIS = "batch"
"""The name of the axis over devices inside a step on several."""


class Devices:
    """Where a run takes place.

    On several devices the state is there once per device, all the same, and every
    device takes its share of the batch. In several processes, every one passes in and
    gets back what is on its own devices.

    Args:
      devices: By default all devices of all processes; some of `jax.local_devices()`
        for a run in a single process.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        # The devices of a process stand together, as its images do in the batch, so
        # that an image has the same place, and draws, however the batch is spread.
        self.devices = tuple(
            sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
        )
        mine = jax.process_index()
        self._num_local = sum(d.process_index == mine for d in self.devices)
        self._compiled = {}

    @property
    def axis_name(self) -> str | None:
        """The axis a step must average over, None on one device."""
        return AXIS if self._several else None

    def __str__(self) -> str:
        processes = len({d.process_index for d in self.devices})
        where = f" in {processes} processes" if processes > 1 else ""
        return f"{len(self.devices)} x {self.devices[0].device_kind}{where}"

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a train step, once; its first argument, the state, is used up.

        Args:
          step: From a state and the images of one device to a state and metrics, the
            same on every device. It averages over `axis_name` where there is one.

        Returns:
          The same from a state that has been `place`d, and images that have been
          `share`d; the metrics are there once.
        """
        if step not in self._compiled:
            self._compiled[step] = self._compile(step)
        return self._compiled[step]

    def _compile(self, step):
        if self._several:
            return jax.pmap(
                step,
                AXIS,
                out_axes=(0, None),
                devices=self.devices,
                donate_argnums=0,
            )
        return jax.jit(step, donate_argnums=0)

    def place(self, state: Any) -> Any:
        """Copies a state of NumPy or other arrays to the devices."""
        if not self._several:
            # A copy, because the buffers of what was passed in must outlive the step.
            return jax.tree.map(
                lambda x: jax.device_put(x, self.devices[0], may_alias=False), state
            )
        copy = jax.pmap(lambda _, x: x, AXIS, in_axes=(0, None), devices=self.devices)
        return copy(np.arange(self._num_local), state)

    def share(self, images: np.ndarray) -> np.ndarray:
        """Lays out [B, ...] of this process as its devices take it.

        That is [B, ...] again where there is one in all, or [D, B / D, ...] for the D
        devices of this process.
        """
        if self._several:
            return images.reshape(self._num_local, -1, *images.shape[1:])
        return images

    def one(self, state: Any) -> Any:
        """What one device of this process holds of a state."""
        if not self._several:
            return state
        # Indexing the whole arrays would be a program for all of their devices.
        return _first(jax.tree.map(lambda x: x.addressable_data(0), state))

    @property
    def _several(self):
        return len(self.devices) > 1


@jax.jit
def _first(tree):
    return jax.tree.map(lambda x: x[0], tree)
