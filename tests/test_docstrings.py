"""The docstrings' examples: what a user meets has one, and they all hold."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
from ml_collections import ConfigDict

import lavae_jax
from lavae_jax import pretrained, released
from tests import tiny_runs

# The examples compute with jax as users do, without strict promotion.
pytestmark = pytest.mark.standard_promotion

NAMES = [
    "lavae_jax",
    *(m.name for m in pkgutil.walk_packages(lavae_jax.__path__, "lavae_jax.")),
]
# The other modules are machinery, with examples where a few lines can show something.
MET_BY_USERS = {
    "compositing",
    "config",
    "disentanglement",
    "editing",
    "images",
    "inference",
    "latents.appearance",
    "latents.counts",
    "latents.locations",
    "likelihood",
    "metrics",
    "objectives",
    "plotting",
    "segmentation",
    "types",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place to write to, where the run of a released model lies in runs/dsprites."""
    folder = tmp_path_factory.mktemp("examples")
    config = released.read(pretrained.FOLDER / "multi_dsprites").config
    _, variables = lavae_jax.load_pretrained("multi_dsprites")
    workdir = folder / "runs" / "dsprites"
    tiny_runs.save_run(workdir, ConfigDict(config), {config["num_steps"]: variables})
    return folder


def _examples(name):
    """The examples of a module's own docstrings, by the names of what they show."""
    finder = doctest.DocTestFinder()
    tests = finder.find(importlib.import_module(name))
    return {test.name: test for test in tests if test.examples}


@pytest.mark.parametrize("name", NAMES)
def test_examples_hold(name, folder, monkeypatch):
    """Each by itself, in a folder where a run lies."""
    monkeypatch.chdir(folder)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in _examples(name).values():
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_the_public_names_have_examples():
    """Everything that `lavae_jax.__all__` names."""
    public = [getattr(lavae_jax, name) for name in lavae_jax.__all__]
    for value in public:
        home = value.__name__ if inspect.ismodule(value) else value.__module__
        examples = _examples(home)
        assert inspect.ismodule(value) or f"{home}.{value.__name__}" in examples


@pytest.mark.parametrize("name", sorted(MET_BY_USERS))
def test_functions_that_users_meet_have_examples(name):
    """All that are public and no methods, those that `jax.jit` wraps too."""
    module = importlib.import_module(f"lavae_jax.{name}")
    functions = {
        f"{module.__name__}.{key}"
        for key, value in vars(module).items()
        if inspect.isroutine(inspect.unwrap(value))
        and value.__module__ == module.__name__
        and not key.startswith("_")
    }
    assert functions <= _examples(module.__name__).keys()
