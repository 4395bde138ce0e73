"""The command line: what is accepted, and what a user reads when it is not."""

import types

import pytest

from datasets import extras
from experiments import cli
from tests.commands import ROOT, run_here, run_python

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
    """A config with every kind of value and two variants."""
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
        ("--config.batch_size=1.5", "config.batch_size=1.5: invalid literal for int"),
        ("--config.beta=high", "config.beta=high: could not convert string to float"),
        ("--config.optimizer=3", "`3` is not a dict"),
        ("--config.optimizer.rate=1", "scenes.py has no value 'rate'."),
        ("--config.bath_size=1", 'Did you mean "batch_size" instead of "bath_size"?'),
        ("--batch_size=1", "Unknown command line flag 'batch_size'"),
        ("more", "unexpected arguments: more."),
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
    with pytest.raises(SystemExit, match=r"error: one, protobuf can't .*\[train\]"):
        extras.check()


COMMAND = """
import jax
from experiments import cli

def main():
    jax.jit(lambda x: x + 1)(1.0)
    print(jax.config.jax_compilation_cache_dir)

if __name__ == "__main__":
    cli.run(main)
"""


def test_commands_keep_programs_in_the_home(tmp_path, monkeypatch):
    """What JAX compiles is kept in the folder that the README names."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    path = tmp_path / "command.py"
    path.write_text(COMMAND)
    done = run_python(
        path,
        PYTHONPATH=str(ROOT),
        HOME=str(tmp_path),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    folder = tmp_path / ".cache" / "lavae_jax" / "jax"
    assert done.stdout.strip() == str(folder), done.stderr
    assert any(folder.iterdir())
    assert "~/.cache/lavae_jax/jax" in (ROOT / "README.md").read_text()
