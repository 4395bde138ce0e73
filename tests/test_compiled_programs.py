"""Commands keep the programs that JAX compiles; importing the library does not."""

from tests.commands import ROOT, run_python

COMMAND = """
import jax
from experiments import cli

def main():
    jax.jit(lambda x: x + 1)(1.0)
    print(jax.config.jax_compilation_cache_dir)

if __name__ == "__main__":
    cli.run(main)
"""


def _run(tmp_path, environment):
    """Runs the command; returns the folder that it has printed."""
    path = tmp_path / "command.py"
    path.write_text(COMMAND)
    done = run_python(
        path,
        PYTHONPATH=str(ROOT),
        HOME=str(tmp_path),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        **environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_commands_keep_programs_in_the_home(tmp_path, monkeypatch):
    """The folder is the one that the README names."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    folder = tmp_path / ".cache" / "lavae_jax" / "jax"
    assert _run(tmp_path, {}) == str(folder)
    assert any(folder.iterdir())
    assert "~/.cache/lavae_jax/jax" in (ROOT / "README.md").read_text()
