"""These helpers run commands as users start them, and take rights on folders away."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import unittest.mock
import warnings

from absl import flags, logging

from experiments import cli

ROOT = pathlib.Path(__file__).parents[1]


def run_python(*arguments, **environment):
    """Runs Python in the repository's root; returns the finished process."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def printed(script, *arguments, **environment):
    """Runs a script, asserts that it succeeds, and returns what it prints."""
    done = run_python("-c", script, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(module, *arguments):
    """Runs the command of a module in this process, from its flags to its exit.

    Returns:
        The exit status and what went to stderr.
    """
    before, verbosity = set(flags.FLAGS), logging.get_verbosity()
    module._define_flags()
    argv, errors = ["command", *map(str, arguments)], io.StringIO()
    try:
        with (
            # ml_collections looks for overrides here.
            unittest.mock.patch.object(sys, "argv", argv),
            # absl's own start changes the process: its name, its log.
            unittest.mock.patch.object(
                cli.app, "run", lambda main, flags_parser: main(flags_parser(argv))
            ),
            contextlib.redirect_stderr(errors),
            warnings.catch_warnings(),
        ):
            # ml_collections loads files of configs behind Python's deprecations.
            warnings.simplefilter("ignore", DeprecationWarning)
            cli.run(module.main)
        status = 0
    except SystemExit as end:
        status = end.code
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        logging.set_verbosity(verbosity)
    return status, errors.getvalue()


@contextlib.contextmanager
def without_access(folder, mode=0):
    """Takes rights on a folder from this process, also as root."""
    superuser = os.geteuid() == 0
    folder.chmod(mode)
    try:
        if superuser:
            os.seteuid(65534)
        yield
    finally:
        if superuser:
            os.seteuid(0)
        folder.chmod(0o700)
