"""What a training run leaves behind: its config and its newest model."""

import json
import pathlib
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from lavae_jax.types import Variables


class Run(NamedTuple):
    """The newest model of a run.

    Attributes:
        config: the run's whole config, as JSON holds it.
        step: training steps made.
        variables: of its model, as NumPy arrays; `batch_stats` may be empty.
    """

    config: dict[str, Any]
    step: int
    variables: Variables


def checkpoint_folder(workdir: str | pathlib.Path) -> pathlib.Path:
    """Where a run keeps its checkpoints, each in a folder named by its step."""
    return pathlib.Path(workdir).absolute() / "checkpoints"


def checkpoint_steps(workdir: str | pathlib.Path) -> list[int]:
    """The steps of a run's complete checkpoints, in order.

    >>> from lavae_jax import runs
    >>> runs.checkpoint_steps("runs/dsprites")  # made by experiments.train
    [5000]
    """
    folder = checkpoint_folder(workdir)
    return sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []


def read_config(workdir: str | pathlib.Path) -> dict[str, Any]:
    """The whole config of a run, as JSON holds it.

    Raises:
        FileNotFoundError: if the folder holds no config.
        ValueError: if the config can't be read.

    >>> from lavae_jax import runs
    >>> runs.read_config("runs/dsprites")["data"]["name"]
    'multi_dsprites'
    """
    path = pathlib.Path(workdir) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{workdir} is not the workdir of a run: it has no config.json. Train one"
            f" with python -m experiments.train --workdir={workdir}."
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read: {error}.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} can't be read: it holds no values by name.")
    return config


def read(workdir: str | pathlib.Path) -> Run:
    """Reads a run's config and the model of its newest complete checkpoint.

    A run may go on meanwhile: nothing in its folder is changed.

    Args:
        workdir: a folder that `experiments.train` has made.

    Raises:
        FileNotFoundError: if it is no such folder, or holds no checkpoint yet.
        ValueError: if the config or the checkpoint can't be read.

    >>> from lavae_jax import runs
    >>> run = runs.read("runs/dsprites")  # made by experiments.train
    >>> run.step, sorted(run.variables)
    (5000, ['batch_stats', 'params'])
    """
    config = read_config(workdir)
    steps = checkpoint_steps(workdir)
    if not steps:
        raise FileNotFoundError(
            f"{workdir} holds no checkpoint yet: train for at least"
            f" {config.get('checkpoint_every', 1)} steps."
        )
    folder = checkpoint_folder(workdir) / str(steps[-1])
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(folder / "state")
        # Not a whole state of training: what else is in it may differ between
        # versions. LAVAE has its warm-up's VAE beside it, the baseline has nothing.
        params = state["params"]
        variables = {
            "params": params.get("lavae", params),
            "batch_stats": state["batch_stats"],
        }
    except (ValueError, KeyError, OSError) as error:
        raise unreadable(folder, error) from error
    return Run(config, steps[-1], variables)


def unreadable(folder: pathlib.Path, why: object) -> ValueError:
    """The error of a checkpoint that can't be read."""
    return ValueError(
        f"the checkpoint {folder} can't be read: {why}.\nDelete this folder to go on"
        f" from the one before it."
    )
