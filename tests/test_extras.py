"""Commands name the packages that are missing, before anything else."""

import configparser
import importlib.metadata
import pathlib
import re

import pytest

from datasets import extras
from tests.commands import ROOT, run_python

COMMANDS = (
    *("train", "evaluate", "release", "benchmark"),
    *("ablations", "paper", "tpu_check"),
)


@pytest.mark.parametrize(
    "command", [*(f"experiments.{name}" for name in COMMANDS), "datasets.generate"]
)
def test_missing_extras(command):
    """Every command names what is missing and how to install it."""
    script = (
        "import runpy, sys\n"
        "for name in ('grain', 'rich', 'google.protobuf'):\n"
        "    sys.modules[name] = None\n"
        f"runpy.run_module('{command}', run_name='__main__')\n"
    )
    done = run_python("-c", script)
    print(f"\n{command} without its extra\n  {done.stderr.strip()}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: protobuf, grain, rich can't be imported: ")
    assert "pip install -e '.[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_extras_are_those_that_are_installed():
    """The check knows every package that the extra in setup.cfg asks for."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = re.findall(
        r"^[\w-]+", setup["options.extras_require"]["train"], re.MULTILINE
    )
    assert sorted(wanted) == sorted(extras.PACKAGES.values())
    for name, package in extras.PACKAGES.items():
        folder = name.replace(".", "/") + "/"
        files = importlib.metadata.files(package) or ()
        assert any(str(file).startswith(folder) for file in files), name


def test_a_part_of_what_is_missing(monkeypatch):
    """Where nothing by the name of `google` is installed, protobuf is missing too."""
    monkeypatch.setattr(extras, "PACKAGES", {"nowhere_at_all.protobuf": "protobuf"})
    with pytest.raises(SystemExit, match="error: protobuf can't be imported"):
        extras.check()


def test_every_command_is_there():
    """The table of missing extras leaves out no command."""
    commands = {
        path.parent.name if path.stem == "__main__" else path.stem
        for path in pathlib.Path(ROOT, "experiments").rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    assert commands == set(COMMANDS)
