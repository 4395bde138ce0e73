"""The API reference, built by the command of the README."""

import pkgutil
import shlex
import subprocess
import sys

import lavae_jax
from tests.commands import ROOT


def test_every_module_has_a_page_that_can_be_found(tmp_path):
    """Each module has a page without warnings, to which that of its package links."""
    (command,) = (
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if "-m pdoc" in line
    )
    command = command.replace(".venv/bin/python", shlex.quote(sys.executable))
    command = command.replace("build/api", shlex.quote(str(tmp_path)))
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for module in pkgutil.walk_packages(lavae_jax.__path__, "lavae_jax."):
        package, _, name = module.name.rpartition(".")
        above = tmp_path / f"{package.replace('.', '/')}.html"
        link = f"{above.stem}/{name}.html"
        assert f'href="{link}"' in above.read_text()
        assert (above.parent / link).exists()
