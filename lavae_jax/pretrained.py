"""Loads trained models: released ones, and models of your own runs."""

import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from lavae_jax import released, runs
from lavae_jax.config import build_model, from_run
from lavae_jax.inference import Model
from lavae_jax.types import Variables

FOLDER = pathlib.Path(__file__).parent / "weights"
"""The folder of the released models, each in a folder of its name."""


def names(folder: str | pathlib.Path | None = None) -> list[str]:
    """Lists the names that `load_pretrained` takes, or the models in a folder."""
    folder = FOLDER if folder is None else pathlib.Path(folder)
    return sorted(path.parent.name for path in folder.glob(f"*/{released.CHECKSUMS}"))


def load_pretrained(name: str) -> tuple[Model, Variables]:
    """Loads the released model of a name in `lavae_jax.pretrained.names()`.

    The weights come with the package. `lavae_jax/weights/<name>/README.md` says how
    they were trained and what they reach.

    Returns:
        The model and its variables, on the default device.

    Raises:
        ValueError: if there is no model of this name, or a file is damaged.
        FileNotFoundError: if a file is missing.
    """
    if name not in names():
        known = ", ".join(names()) or "none in this installation"
        raise ValueError(f"there is no released model {name!r}. There is: {known}.")
    return load_released(FOLDER / name)


def load_released(folder: str | pathlib.Path) -> tuple[Model, Variables]:
    """Loads a model from a folder that `experiments.release` has made.

    Every file is checked against its checksum before it is used. Results and errors are
    those of `load_pretrained`.
    """
    folder = pathlib.Path(folder)
    contents = released.read(folder)
    return assemble(contents.config, contents.tensors, folder)


def load(workdir: str | pathlib.Path) -> tuple[Model, Variables]:
    """Loads the newest model of a training run, which may still be running.

    Returns:
        The model and its variables, on the default device, from the newest checkpoint
        that is whole; a warning names newer ones that are not.

    Raises:
        FileNotFoundError: if it is not the folder of a run, or holds no checkpoint yet.
        ValueError: if what it holds can't be read, or is not the model of its config.

    >>> import lavae_jax
    >>> model, variables = lavae_jax.load("runs/dsprites")  # made by experiments.train
    >>> model.image_shape
    (64, 64, 3)
    """
    model, run = read_run(workdir)
    if run.warning:
        warnings.warn(run.warning, stacklevel=2)
    return model, jax.device_put(run.variables)


def read_run(workdir: str | pathlib.Path) -> tuple[Model, runs.Run]:
    """Reads a run, and builds the model of its config, which its variables fit.

    Arguments and errors are those of `load`.
    """
    model = _build(runs.read_config(workdir), workdir)
    shapes = _shapes(model)

    def check(variables):
        if problem := _misfit(shapes, flatten(variables)):
            raise ValueError(f"it does not hold the model of its config: {problem}")

    return model, runs.read(workdir, check)


def flatten(variables: Variables) -> dict[str, Any]:
    """Maps the paths of arrays, `params/location_net/...`, to the arrays."""
    return traverse_util.flatten_dict(variables, sep="/")


def assemble(
    config: Mapping[str, Any], tensors: Mapping[str, Any], source: str | pathlib.Path
) -> tuple[Model, Variables]:
    """Builds the model of a run's config and its variables, and checks that they fit.

    The tensors are named by their paths, as `flatten` does; errors name the `source`.

    Raises:
        ValueError: if the config describes no model, or the variables do not fit it.
    """
    model = _build(config, source)
    if problem := _misfit(_shapes(model), tensors):
        raise ValueError(f"{source} does not hold the model of its config: {problem}.")
    return model, jax.device_put(traverse_util.unflatten_dict(tensors, sep="/"))


def _build(config, source):
    try:
        return build_model(from_run(config))
    except ValueError as error:
        raise ValueError(f"{source}/config.json: {error}") from error


def _shapes(model):
    """Finds shape and type of each variable of a model, by its path."""
    image = jnp.zeros((1, *model.image_shape), jnp.float32)
    return flatten(jax.eval_shape(lambda: model.init(jax.random.key(0), image)))


def _misfit(expected, tensors):
    """Says why tensors are not the variables of a model; "" if they are."""
    problems = [
        *(f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())),
        *(f"{name} is unexpected" for name in sorted(tensors.keys() - expected.keys())),
        *(
            f"{name} is {_kind(tensors[name])}, not {_kind(expected[name])}"
            for name in sorted(expected.keys() & tensors.keys())
            if _kind(tensors[name]) != _kind(expected[name])
        ),
    ]
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more


def _kind(array):
    return f"{array.dtype}{list(array.shape)}"
