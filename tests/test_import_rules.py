"""Imports go one way, need only what is asked for, and change nothing."""

import ast
import configparser
import functools
import importlib.metadata
import re
import sys

import pytest

from tests.commands import ROOT, printed

COMMAND_LINE = {"tensorflow", "tensorflow_datasets", "absl", "ml_collections", "grain"}


def _sources(package):
    path = ROOT / package
    return sorted(path.rglob("*.py")) or [path.with_suffix(".py")]


def _imports(path):
    """Yields the absolute names of all that a file imports, wherever in the file."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _offences(package, is_forbidden):
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(package)
        for name in _imports(path)
        if is_forbidden(name)
    ]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("lavae_jax", {"datasets", "experiments", "tests", *COMMAND_LINE}),
        (
            "datasets",
            {"lavae_jax", "experiments", "tests", "jax", "flax", "tensorflow"},
        ),
        ("experiments", {"tests", "tensorflow"}),
    ],
)
def test_imports_go_one_way(package, forbidden):
    """Only `experiments` imports the other two; the library has no command line."""
    assert _sources(package)
    assert not _offences(package, lambda name: name.split(".")[0] in forbidden)


LAYERS = (
    ("types",),
    ("blocks", "compositing", "latents", "likelihood", "networks"),
    ("model", "objectives"),
    ("training",),
)


def test_the_library_has_layers():
    """In the library, the paper's equations import nothing that is built on them."""
    for number, layer in enumerate(LAYERS):
        above = tuple(f"lavae_jax.{name}" for name in sum(LAYERS[number + 1 :], ()))
        for name in layer:
            assert not _offences(
                f"lavae_jax/{name}", lambda n, a=above: n.startswith(a)
            )


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("lavae_jax", []),
        ("datasets", ["train"]),
        ("experiments", ["train"]),
        ("tests", ["train", "dev"]),
    ],
)
def test_everything_imported_is_asked_for(package, extras):
    """`pip install` of the extra is enough: nothing comes along by chance."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"] + "".join(
        setup["options.extras_require"][extra] for extra in extras
    )
    wanted = {
        _normalised(name) for name in re.findall(r"^[\w-]+", wanted, re.MULTILINE)
    }
    givers = _distributions()
    ours = {"lavae_jax", "datasets", "experiments", "tests"}
    known = sys.stdlib_module_names | ours

    def is_forbidden(name):
        top = name.split(".")[0]
        return top not in known and wanted.isdisjoint(
            map(_normalised, givers.get(top, []))
        )

    assert not _offences(package, is_forbidden)


@functools.cache
def _distributions():
    """Returns which distributions give each package; cached, as it takes a second."""
    return importlib.metadata.packages_distributions()


def _normalised(name):
    return name.lower().replace("_", "-")


def test_importing_the_library_changes_nothing():
    """No device is touched, no setting of JAX changed, no command line loaded.

    Every module is imported, in a process where nothing else has been and where every
    warning is an error.
    """
    paths = (path.relative_to(ROOT).with_suffix("") for path in _sources("lavae_jax"))
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    assert "lavae_jax.model" in modules
    loaded = printed(
        "import importlib, sys, warnings\n"
        "warnings.simplefilter('error')\n"
        # matplotlib 3.10.0 with today's pyparsing
        "warnings.filterwarnings('ignore', '.* deprecated - use', DeprecationWarning)\n"
        "import jax; from jax.extend import backend\n"
        "before = dict(jax.config.values)\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "assert dict(jax.config.values) == before\n"
        # The number of CPU devices can be set until a device has been used.
        "jax.config.update('jax_num_cpu_devices', 3)\n"
        "assert jax.local_device_count('cpu') == 3\n"
        "print(*sys.modules)\n",
    )
    assert not {"tensorflow", "tensorflow_datasets", "grain"} & set(loaded.split())
