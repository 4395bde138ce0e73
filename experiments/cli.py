"""The common parts of commands: configs on the command line, and readable errors."""

import contextlib
import io
import os
import pathlib
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import app, flags, logging
from flax import traverse_util
from ml_collections import ConfigDict, config_flags

from experiments import files

_KNOWN_CONFIGS = "The experiments of this project are in experiments/configs."
COMPILED = "~/.cache/lavae_jax/jax"
"""Commands keep compiled programs here, unless JAX_COMPILATION_CACHE_DIR is set."""


class UserError(Exception):
    """An error that the user can put right, shown as a message without a traceback.

    Functions of a command raise it, or an error that the command turns into it, for
    anything they can't use; docstrings mention it only to add details.
    """


@contextlib.contextmanager
def user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Raises a `UserError` with the same message instead of errors of these kinds.

    Use it only where such errors can only come from what the user gave.
    """
    try:
        yield
    except kinds as error:
        raise UserError(str(error)) from error


def warn(text: str) -> None:
    """Prints a warning about a problem that does not end the command."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def make_writable(folder: pathlib.Path, num_bytes: int) -> None:
    """Makes a folder, and refuses one that can't take `num_bytes`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.make_sure_of_room(folder, num_bytes)
    except OSError as error:
        raise UserError(
            f"{folder} can't be written to: {error}. Give another folder, --out."
        ) from error


def define_config() -> flags.FlagHolder:
    """Returns the flag `--config=FILE[:VARIANT]` with `--config.NAME=VALUE` overrides.

    Both are checked by `run` before the command starts.
    """
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "FILE[:VARIANT] is the experiment; --config.NAME=VALUE changes a value of it.",
        lock_config=True,
    )


def config_name() -> str:
    """Returns a name for the experiment that `--config` asks for.

    `experiments/configs/dsprites.py:laptop` gives `dsprites-laptop`.
    """
    file, *variant = flags.FLAGS["config"].config_filename.split(":")
    return "-".join([pathlib.Path(file).stem, *variant])


def run(main: Callable[[], None], default_config: str | None = None) -> None:
    """Parses the flags, runs a command and exits with its status.

    Commands define their flags just before, not on import, as they share names.
    Programs that JAX compiles are kept for the next start, in `COMPILED`. The variable
    JAX_COMPILATION_CACHE_DIR names another folder; if it is empty, none are kept. The
    status is 0 for success, 1 after a `UserError`, 130 after an interruption.

    Args:
        main: the command, without arguments.
        default_config: the `--config` to use if none is given; None if one must be.
    """

    def parse(argv):
        if default_config is not None and _last_config(argv) is None:
            argv = [argv[0], f"--config={default_config}", *argv[1:]]
        return _parse_flags(argv)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console that lacks a character shows another one, and nothing ends.
            stream.reconfigure(errors="replace")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(COMPILED))
    app.run(lambda _: _guarded(main), flags_parser=lambda argv: _guarded(parse, argv))


def load_config(file_and_variant: str) -> ConfigDict:
    """Loads the config of FILE[:VARIANT]: calls `get_config` of the file."""
    file, _, variant = file_and_variant.partition(":")
    if not pathlib.Path(file).is_file():
        raise UserError(f"--config: there is no file {file}. {_KNOWN_CONFIGS}")
    get_config = runpy.run_path(file).get("get_config")
    if get_config is None:
        raise UserError(
            f"--config: {file} defines no function get_config. {_KNOWN_CONFIGS}"
        )
    with user_errors(ValueError):
        return get_config(variant) if variant else get_config()


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns the values of a config by their full names: `optimizer.learning_rate`."""
    return traverse_util.flatten_dict(config.to_dict(), sep=".")


def _parse_flags(argv):
    file_and_variant = _last_config(argv)
    if file_and_variant is not None:
        load_config(file_and_variant)
    try:
        remaining = flags.FLAGS(argv)
    except AttributeError as error:
        # ml_collections wraps a KeyError, whose text would be quoted twice.
        cause = error.args[0]
        missing = str(cause.args[0] if isinstance(cause, KeyError) else cause)
        raise UserError(
            f"--config.NAME=VALUE: {file_and_variant} has no value {missing}."
        ) from error
    except flags.Error as error:
        raise UserError(str(error)) from error
    if len(remaining) > 1:
        raise UserError(f"unexpected arguments: {' '.join(remaining[1:])}.")
    if flags.FLAGS["verbosity"].using_default_value:
        # At absl's default level, Orbax and TFDS log every detail.
        flags.FLAGS.verbosity = logging.WARNING
    for name, value in _texts():
        if "://" in value:
            raise UserError(
                f"--{name}={value} is an address, but files of this machine are needed:"
                " mount the bucket (gcsfuse, s3fs), and give the folder."
            )
    _expand_homes()
    if "config" in flags.FLAGS and flags.FLAGS.config is None:
        raise UserError(f"--config=FILE is needed. {_KNOWN_CONFIGS}")
    return remaining


def _expand_homes():
    """Replaces a ~ at the beginning of values, which no shell replaces after a =."""
    for name, value in list(_texts()):
        if value.startswith("~"):
            expanded = os.path.expanduser(value)
            if name.startswith("config."):
                part = name.removeprefix("config.")
                flags.FLAGS.config.update_from_flattened_dict({part: expanded})
            else:
                flags.FLAGS[name].value = expanded


def _texts():
    """Yields names and values of all flags and values of the config that are texts."""
    values = dict(flags.FLAGS.flag_values_dict())
    config = values.pop("config", None)
    if config is not None:
        values |= {f"config.{name}": x for name, x in flatten(config).items()}
    for name, value in values.items():
        if isinstance(value, str):
            yield name, value


def _guarded(function, *args):
    """Calls the function; turns a user's error or interruption into an exit."""
    try:
        return function(*args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        sys.exit(130)


def _last_config(argv):
    """Finds the value of the last `--config`, or None."""
    value = None
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        if argument in ("--config", "-config"):
            value = following
        elif re.match("--?config=", argument):
            value = argument.partition("=")[2]
    return value
