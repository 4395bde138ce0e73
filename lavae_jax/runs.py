"""Reads the config and the newest model of a training run."""

import json
import pathlib
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from lavae_jax import released
from lavae_jax.types import Variables

_LONGEST_REASON = 300


class Newest(NamedTuple):
    """The newest checkpoint that can be used, and newer ones, which are damaged.

    `damaged` maps the step of each newer checkpoint that can't be used to the reason, a
    clause without a full stop.
    """

    step: int
    content: Any
    damaged: dict[int, str]

    @property
    def warning(self) -> str | None:
        """Returns a warning about newer checkpoints that can't be used, or None."""
        if not self.damaged:
            return None
        reasons = "; ".join(self.damaged.values())
        return f"{reasons}. The checkpoint of step {self.step} is used instead."


class Run(NamedTuple):
    """The newest model of a run.

    Attributes:
        config: the run's whole config, as JSON holds it.
        step: how many training steps were made.
        variables: variables of the model, NumPy arrays; `batch_stats` may be empty.
        warning: a text that says which newer checkpoints can't be used, and why.
    """

    config: dict[str, Any]
    step: int
    variables: Variables
    warning: str | None = None


def checkpoint_folder(workdir: str | pathlib.Path) -> pathlib.Path:
    """Returns the folder of a run's checkpoints, which are folders named by step."""
    return pathlib.Path(workdir).absolute() / "checkpoints"


def checkpoint_steps(workdir: str | pathlib.Path) -> list[int]:
    """Lists the steps of a run's complete checkpoints, in order."""
    folder = checkpoint_folder(workdir)
    return sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []


def read_config(workdir: str | pathlib.Path) -> dict[str, Any]:
    """Reads the whole config of a run, as JSON holds it.

    Raises:
        FileNotFoundError: if the folder holds no config.
        ValueError: if the config can't be read.
    """
    path = pathlib.Path(workdir) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{workdir} is not the workdir of a run: it has no config.json."
            f" Train one with python -m experiments.train --workdir={workdir}."
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read: {error}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("data", {}), dict):
        raise ValueError(f"{path} can't be read: it does not hold a config.")
    return config


def newest(
    workdir: str | pathlib.Path, read: Callable[[pathlib.Path], Any]
) -> Newest | None:
    """Reads the newest checkpoint that is whole and holds what it should.

    A checkpoint whose files differ from their checksums is never handed to `read`.
    Nothing in the run's folder is changed.

    `read` takes a checkpoint's folder and returns what is wanted from it; it raises
    ValueError, KeyError or OSError for one that can't be used. The result is None for a
    run without checkpoints.

    Raises:
        ValueError: if the run has checkpoints, but none can be used.
    """
    damaged: dict[int, str] = {}
    for step in reversed(checkpoint_steps(workdir)):
        folder = checkpoint_folder(workdir) / str(step)
        try:
            released.check_folder(folder)
            return Newest(step, read(folder), damaged)
        except (ValueError, KeyError, OSError) as error:
            reason = textwrap.shorten(str(error), _LONGEST_REASON).rstrip(".")
            damaged[step] = f"the checkpoint {folder} can't be used: {reason}"
    if not damaged:
        return None
    reasons = "".join(f"  {why}.\n" for why in damaged.values())
    raise ValueError(
        f"{workdir} has no checkpoint that is whole, and of its config:\n{reasons}"
        "Nothing was changed. Put a copy of one back, or start another run in another"
        " folder."
    )


def read(
    workdir: str | pathlib.Path, check: Callable[[Variables], None] = lambda _: None
) -> Run:
    """Reads a run's config and the model of its newest checkpoint that can be used.

    The run may still be training: nothing in its folder is changed.

    Args:
        workdir: a folder that `experiments.train` has made.
        check: raises a ValueError for variables that do not fit the run's model.

    Raises:
        FileNotFoundError: if it is not such a folder, or holds no checkpoint yet.
        ValueError: if the config can't be read, or no checkpoint can be used.
    """
    config = read_config(workdir)

    def read_checked(folder):
        variables = _variables(folder)
        check(variables)
        return variables

    checkpoint = newest(workdir, read_checked)
    if checkpoint is None:
        raise FileNotFoundError(
            f"{workdir} holds no checkpoint yet: train for at least"
            f" {config.get('checkpoint_every', 1)} steps."
        )
    return Run(config, checkpoint.step, checkpoint.content, checkpoint.warning)


def _variables(folder: pathlib.Path) -> Variables:
    """Reads the variables of the model of a checkpoint."""
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(folder / "state")
    # The rest of the training state may differ between versions. The parameters of
    # LAVAE are beside those of the auxiliary VAE; the baseline has no auxiliary VAE.
    params = state.get("params") if isinstance(state, dict) else None
    if not isinstance(params, dict) or "batch_stats" not in state:
        raise ValueError("it does not hold the state of a training run")
    return {"params": params.get("lavae", params), "batch_stats": state["batch_stats"]}
