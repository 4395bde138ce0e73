"""The command line takes configs and overrides, and names what it can't take."""

import configparser
import re
import types

import jax
import pytest
from absl import flags

from datasets import extras
from experiments import cli
from tests.commands import ROOT, run_here

CONFIG = """
import ml_collections

def get_config(variant="paper"):
    if variant not in ("paper", "laptop"):
        raise ValueError(f"no variant {variant!r}: there are paper, laptop.")
    config = ml_collections.ConfigDict()
    config.batch_size = 64
    config.stem = variant == "laptop"
    config.beta = 1.0
    config.sizes = (1, 2)
    config.data = ml_collections.ConfigDict()
    config.data.data_dir = ml_collections.config_dict.placeholder(str)
    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 1e-3
    return config
"""


@pytest.fixture
def config_file(tmp_path):
    """Writes a config with every kind of value and two variants."""
    path = tmp_path / "scenes.py"
    path.write_text(CONFIG)
    return str(path)


def test_overrides_reach_the_command(config_file, capsys):
    """`--config=FILE:VARIANT` and overrides in both spellings reach a command."""
    flag = []

    def main():
        config = flag[0].value
        print(cli.config_name(), config.batch_size, config.optimizer.learning_rate)

    command = types.SimpleNamespace(
        _define_flags=lambda: flag.append(cli.define_config()), main=main
    )
    status, said = run_here(
        command,
        f"--config={config_file}:laptop",
        "--config.optimizer.learning_rate=2e-3",
        "--config.batch_size",
        "16",
    )
    assert (status, said) == (0, "")
    assert capsys.readouterr().out == "scenes-laptop 16 0.002\n"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.batch_size=1.5", "config.batch_size=1.5"),
        ("--config.beta=high", "config.beta=high"),
        ("--config.optimizer=3", "config.optimizer"),
        ("--config.optimizer.rate=1", "'rate'"),
        ("--config.bath_size=1", '"bath_size"'),
        ("more", " more"),
    ],
)
def test_wrong_values(config_file, override, message):
    """A wrong name, or a value of the wrong type, is refused by its name."""
    command = types.SimpleNamespace(_define_flags=cli.define_config, main=None)
    status, said = run_here(command, f"--config={config_file}", override)
    assert status == 1 and message in said and "Traceback" not in said


def test_missing_packages_are_named(monkeypatch):
    """A command ends with the names of what is missing and how to install it.

    A package that is a part of another, which is missing too, is among them.
    """
    missing = {"nowhere_at_all": "one", "nowhere_at_all.protobuf": "protobuf"}
    monkeypatch.setattr(extras, "PACKAGES", {**missing, "jax": "jax"})
    with pytest.raises(SystemExit, match=r"one, protobuf .*\[train\]"):
        extras.check()


def test_commands_keep_programs_in_the_home(tmp_path, monkeypatch):
    """JAX is told to keep what it compiles in a folder of the user's home."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    before, found = jax.config.jax_compilation_cache_dir, []
    command = types.SimpleNamespace(
        _define_flags=lambda: None,
        main=lambda: found.append(jax.config.jax_compilation_cache_dir),
    )
    try:
        assert run_here(command) == (0, "")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert found == [str(tmp_path / ".cache" / "lavae_jax" / "jax")]


def test_every_package_is_looked_for():
    """Commands look for each package of the extra `train` in setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options.extras_require"]["train"]
    names = re.findall(r"^[\w-]+", wanted, re.MULTILINE)
    assert sorted(names) == sorted(extras.PACKAGES.values())


def test_home_directories(config_file, monkeypatch, capsys):
    """A ~ at the beginning of a flag, or of a config's value, is the home directory."""
    monkeypatch.setenv("HOME", "/home/someone")
    flag = []

    def define():
        flag.append(cli.define_config())
        flags.DEFINE_string("out", None, "")

    def main():
        print(flag[0].value.data.data_dir, flags.FLAGS.out)

    command = types.SimpleNamespace(_define_flags=define, main=main)
    paths = ("--config.data.data_dir=~/data", "--out=~/out")
    assert run_here(command, f"--config={config_file}", *paths)[0] == 0
    assert capsys.readouterr().out == "/home/someone/data /home/someone/out\n"
