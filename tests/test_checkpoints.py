"""A run goes on from its checkpoints exactly, and refuses damaged ones."""

import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.run import checkpoints
from experiments.run import workdir as run_workdir
from lavae_jax import released, runs
from lavae_jax.training.state import TrainState
from tests.commands import printed
from tests.tiny_runs import any_config


def _position(batches):
    """Makes a place in the data, with no metrics left to report."""
    return checkpoints.Position(batches, [])


def _init(size=3):
    """Makes a state of two parts, with `size` weights and a bias."""
    params = {
        "lavae": {"kernel": jnp.arange(1.0, size + 1)},
        "auxiliary": {"bias": jnp.float32(0.5)},
    }
    moments = {"momentum": jnp.ones(size)}
    key = jax.random.key(5)
    return TrainState(jnp.int32(0), params, {"mean": jnp.zeros(size)}, moments, key)


def test_an_unfinished_checkpoint_is_not_used(tmp_path, capsys):
    """What a kill during writing leaves behind is passed over, and cleared away."""
    run_workdir.claim(tmp_path, any_config())
    store = checkpoints.Checkpoints(tmp_path)
    store.save(4, _init(), _position({"next_index": 4}))
    store.close()
    unfinished = tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert runs.read(tmp_path).step == 4
    assert unfinished.exists()
    store = checkpoints.Checkpoints(tmp_path)
    assert store.restore(_init()).step == 4
    store.close()
    assert not unfinished.exists()
    assert not capsys.readouterr().err


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Makes a run's folder with checkpoints after steps 4 and 8, for tests to copy.

    They are stored from the last of four devices.
    """
    workdir = tmp_path_factory.mktemp("stored")
    run_workdir.claim(workdir, any_config())
    store = checkpoints.Checkpoints(workdir)
    for step in (4, 8):
        state = _init()._replace(step=jnp.int32(step))
        state = jax.device_put(state, jax.devices()[-1])
        store.save(step, state, _position({"next_index": step}))
    store.close()
    return workdir


def _largest(folder):
    return max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)


def _flip_a_bit(folder):
    path = _largest(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _remove_a_file(folder):
    _largest(folder).unlink()


def _lose_the_checksums_content(folder):
    (folder / released.CHECKSUMS).write_text("")


def _put_another_models(folder):
    other = folder.parents[1] / "other"
    store = checkpoints.Checkpoints(other)
    store.save(8, {"weights": jnp.ones(3)}, _position({}))
    store.close()
    shutil.rmtree(folder)
    (other / "checkpoints" / "8").rename(folder)


DAMAGES = {
    _flip_a_bit: r"its file state/.* is damaged: the SHA-256 is not the one",
    _remove_a_file: r"its file state/.* is missing",
    _lose_the_checksums_content: r"its SHA256SUMS is empty",
    _put_another_models: r"does not hold (the|a whole) state of",
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.items())
def test_the_newest_whole_checkpoint_is_used(stored, tmp_path, capsys, damage, reason):
    """The newest whole checkpoint is used, with a warning; damaged ones go aside."""
    workdir = shutil.copytree(stored, tmp_path / "run")
    damage(workdir / "checkpoints" / "8")
    warning = rf"/checkpoints/8 can't be used: .*{reason}.* step 4 is used instead\."

    run = runs.read(workdir)
    assert run.step == 4
    assert re.search(warning, run.warning)
    assert runs.checkpoint_steps(workdir) == [4, 8]

    store = checkpoints.Checkpoints(workdir)
    restored = store.restore(jax.eval_shape(_init))
    assert (restored.step, restored.position) == (4, _position({"next_index": 4}))
    said = capsys.readouterr().err
    assert said.startswith("warning: the checkpoint ") and re.search(warning, said)
    assert (workdir / "damaged_checkpoints" / "8-0").is_dir()
    store.save(8, _init(), _position({"next_index": 9}))
    assert store.restore(_init()).position.batches == {"next_index": 9}
    store.close()
    assert not capsys.readouterr().err


def test_without_a_whole_checkpoint_nothing_begins(stored, tmp_path):
    """A run never begins from zero again: the error lists every checkpoint."""
    workdir = shutil.copytree(stored, tmp_path / "run")
    _flip_a_bit(workdir / "checkpoints" / "4")
    _remove_a_file(workdir / "checkpoints" / "8")
    store = checkpoints.Checkpoints(workdir)
    message = r"checkpoints/8 (.|\n)*checkpoints/4 "
    with pytest.raises(cli.UserError, match=message):
        store.restore(_init())
    store.close()
    assert runs.checkpoint_steps(workdir) == [4, 8]
    with pytest.raises(ValueError, match=r"checkpoints/8 (.|\n)*checkpoints/4 "):
        runs.read(workdir)


def test_older_checkpoints_are_read_on_another_number_of_devices(stored, tmp_path):
    """A process with one device reads what the last of four has stored.

    Without checksums, as older versions stored them, whole checkpoints are used and
    damaged ones are passed over.
    """
    workdir = shutil.copytree(stored, tmp_path / "run")
    for step in ("4", "8"):
        (workdir / "checkpoints" / step / released.CHECKSUMS).unlink()
    # The script has its own process: reads under way at the first error end noisily.
    script = (
        "import jax, pathlib, sys\n"
        "from lavae_jax import runs\n"
        "workdir = pathlib.Path(sys.argv[1])\n"
        "run = runs.read(workdir)\n"
        "kernel = run.variables['params']['kernel']\n"
        "print(len(jax.devices()), run.step, kernel.tobytes().hex())\n"
        "for path in (workdir / 'checkpoints/8/state').rglob('d/*'):\n"
        "    path.write_bytes(b'cut off')\n"
        "print(runs.read(workdir).step)\n"
    )
    kernel = np.asarray(_init().params["lavae"]["kernel"]).tobytes().hex()
    assert printed(script, workdir, XLA_FLAGS="") == f"1 8 {kernel}\n4\n"


def test_a_checkpoint_is_on_the_disk(tmp_path, monkeypatch):
    """A save waits until every file and folder of a checkpoint is on the disk."""
    synced, fsync = set(), os.fsync

    def noted(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store = checkpoints.Checkpoints(tmp_path)
    store.save(1, {"weights": jnp.ones(3)}, _position({}))
    store.close()
    folder = tmp_path / "checkpoints"
    paths = (tmp_path, folder, *folder.rglob("*"))
    assert folder / "1" / released.CHECKSUMS in paths
    assert not [path for path in paths if path.stat().st_ino not in synced]
