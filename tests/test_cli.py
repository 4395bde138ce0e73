"""The command line: what is accepted, and what a user reads when it is not."""

import pytest
from ml_collections import ConfigDict

from experiments import cli
from tests.commands import ROOT, run_python

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

COMMAND = """
from experiments import cli

FLAG = cli.define_config()

def main():
    print(cli.config_name(), FLAG.value.batch_size, FLAG.value.optimizer.learning_rate)

if __name__ == "__main__":
    cli.run(main)
"""


@pytest.fixture
def config_file(tmp_path):
    """A config with every kind of value and two variants."""
    path = tmp_path / "scenes.py"
    path.write_text(CONFIG)
    return str(path)


def _run(tmp_path, *args):
    command = tmp_path / "command.py"
    command.write_text(COMMAND)
    return run_python(command, *args, PYTHONPATH=str(ROOT))


def _check(*argv):
    cli.check_config_flags(["command", *argv])


def test_overrides_reach_the_command(tmp_path, config_file):
    """`--config=FILE:VARIANT` and overrides in both spellings reach a command."""
    result = _run(
        tmp_path,
        f"--config={config_file}:laptop",
        "--config.optimizer.learning_rate=2e-3",
        "--config.batch_size",
        "16",
    )
    assert (result.stdout, result.stderr) == ("scenes-laptop 16 0.002\n", "")


def test_errors_are_one_message(tmp_path, config_file):
    """A user's mistake ends the command with status 1 and a message, no traceback."""
    result = _run(tmp_path, f"--config={config_file}", "--config.batch_sise=16")
    assert result.returncode == 1
    assert result.stderr.startswith("error: --config.batch_sise: there is no such")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--config=FILE is needed"),
        (["--workdri=x"], "Unknown command line flag 'workdri'"),
        (["stray"], "unexpected arguments: stray."),
    ],
)
def test_wrong_flags(tmp_path, flags, message):
    """Missing, unknown and stray arguments are refused by name."""
    result = _run(tmp_path, *flags)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.batch_size=1.5", "takes a whole number, such as 64: got '1.5'"),
        ("--config.beta=high", "takes a number, such as 1.0: got 'high'"),
        ("--config.stem=perhaps", "takes true or false, such as False: got 'perhaps'"),
        ("--config.optimizer=3", "is a group of values: optimizer.learning_rate."),
    ],
)
def test_wrong_values(config_file, override, message):
    """A value of the wrong type is refused with the type that is expected."""
    with pytest.raises(cli.UserError, match=message):
        _check(f"--config={config_file}", override)


@pytest.mark.parametrize(
    "overrides",
    [
        ["--config.beta=2"],
        ["--config.stem"],
        ["--config.stem", "--config.beta", "2"],
        ["--noconfig.stem"],
        ["--config.sizes=(3, 4)"],
        ["--config.sizes[0]=3"],
        ["--config.data.data_dir=/somewhere"],
    ],
)
def test_right_values(config_file, overrides):
    """Every spelling that ml_collections understands passes the check."""
    _check(f"--config={config_file}", *overrides)


def test_wrong_name_lists_the_right_ones(config_file):
    """A wrong name is refused with the nearest name and the list of all of them."""
    with pytest.raises(cli.UserError) as error:
        _check(f"--config={config_file}", "--config.optimizer.lerning_rate=1")
    message = str(error.value)
    assert "Did you mean --config.optimizer.learning_rate?" in message
    assert "  batch_size = 64\n" in message
    assert "  data.data_dir = None\n" in message


def test_wrong_variant_lists_the_right_ones(config_file):
    """A wrong variant is refused with the config's own message."""
    with pytest.raises(cli.UserError, match="'lap': there are paper, laptop"):
        _check(f"--config={config_file}:lap")


def test_wrong_file_lists_the_right_ones(tmp_path):
    """A config file that does not exist is refused with those that do."""
    with pytest.raises(cli.UserError, match=r"no file .*nowhere.py(.|\n)*experiments"):
        _check(f"--config={tmp_path / 'nowhere.py'}")
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(cli.UserError, match="defines no function get_config"):
        _check(f"--config={empty}")


def test_only_expected_errors_become_messages():
    """`user_errors` leaves other exceptions, which are bugs, their traceback."""
    with pytest.raises(cli.UserError, match="too large"), cli.user_errors(ValueError):
        raise ValueError("too large")
    with pytest.raises(KeyError), cli.user_errors(ValueError):
        raise KeyError("bug")


def test_flatten():
    """Full names of nested values, in the form in which overrides spell them."""
    config = ConfigDict({"a": 1, "b": {"c": (2, 3), "d": {"e": None}}})
    assert cli.flatten(config) == {"a": 1, "b.c": (2, 3), "b.d.e": None}
