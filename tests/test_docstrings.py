"""The examples in docstrings hold."""

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

MODULES = [
    module.name
    for module in pkgutil.walk_packages(lavae_jax.__path__, "lavae_jax.")
    if ">>>" in inspect.getsource(importlib.import_module(module.name))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes a folder with the run of a released model in runs/dsprites."""
    folder = tmp_path_factory.mktemp("examples")
    config = released.read(pretrained.FOLDER / "multi_dsprites").config
    _, variables = lavae_jax.load_pretrained("multi_dsprites")
    workdir = folder / "runs" / "dsprites"
    tiny_runs.save_run(workdir, ConfigDict(config), {config["num_steps"]: variables})
    return folder


@pytest.mark.parametrize("name", ["lavae_jax", *MODULES])
def test_examples_hold(name, folder, monkeypatch):
    """Each example of a module has the result that it states, in a folder of a run."""
    monkeypatch.chdir(folder)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(importlib.import_module(name)):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
