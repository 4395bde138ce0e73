"""Python in a process of its own, as users start it."""

import os
import pathlib
import subprocess
import sys

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
    """What a script prints, which must end well."""
    done = run_python("-c", script, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
