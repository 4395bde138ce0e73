"""The command line: what is accepted, and what a user reads when it is not."""

import types

import pytest
from ml_collections import ConfigDict

from experiments import cli
from tests.commands import run_here

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


def _check(*argv):
    cli.check_config_flags(["command", *argv])


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
        ("--config.batch_size=1.5", "takes a whole number, such as 64: got '1.5'"),
        ("--config.beta=high", "takes a number, such as 1.0: got 'high'"),
        ("--config.optimizer=3", "is a group of values: optimizer.learning_rate."),
    ],
)
def test_wrong_values(config_file, override, message):
    """A value of the wrong type is refused with the type that is expected."""
    with pytest.raises(cli.UserError, match=message):
        _check(f"--config={config_file}", override)


def test_wrong_name_lists_the_right_ones(config_file):
    """A wrong name is refused with the nearest name and the list of all of them."""
    with pytest.raises(cli.UserError) as error:
        _check(f"--config={config_file}", "--config.optimizer.lerning_rate=1")
    message = str(error.value)
    assert "Did you mean --config.optimizer.learning_rate?" in message
    assert "  batch_size = 64\n" in message
    assert "  data.data_dir = None\n" in message


def test_flatten():
    """Full names of nested values, in the form in which overrides spell them."""
    config = ConfigDict({"a": 1, "b": {"c": (2, 3), "d": {"e": None}}})
    assert cli.flatten(config) == {"a": 1, "b.c": (2, 3), "b.d.e": None}
