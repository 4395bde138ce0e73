"""A run goes on from its checkpoints exactly, and refuses damaged ones."""

import errno
import hashlib
import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import cli
from experiments.run import checkpoints
from experiments.run import config as run_config
from lavae_jax import released, runs
from lavae_jax.training.state import TrainState
from tests.commands import printed
from tests.tiny_runs import any_config

OPTIMIZER = optax.multi_transform(
    {"fast": optax.adamax(1e-2), "slow": optax.adamax(1e-3)},
    {"lavae": "fast", "auxiliary": "slow"},
)


def _position(batches):
    """A place in the data from which all is reported."""
    return checkpoints.Position(batches, [])


def _init(size=3):
    """A state of two parts, with `size` weights and a bias."""
    params = {
        "lavae": {"kernel": jnp.arange(1.0, size + 1)},
        "auxiliary": {"bias": jnp.float32(0.5)},
    }
    stats = {"mean": jnp.zeros(size)}
    key = jax.random.key(5)
    return TrainState(jnp.int32(0), params, stats, OPTIMIZER.init(params), key)


@jax.jit
def _step(state):
    key, key_noise = jax.random.split(state.key)
    noise = jax.random.normal(key_noise, state.batch_stats["mean"].shape)

    def loss(params):
        y = params["lavae"]["kernel"] * noise + params["auxiliary"]["bias"]
        return jnp.sum(y**2)

    updates, opt_state = OPTIMIZER.update(
        jax.grad(loss)(state.params), state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    stats = {"mean": 0.9 * state.batch_stats["mean"] + 0.1 * noise}
    return TrainState(state.step + 1, params, stats, opt_state, key)


def _assert_equal(state, other):
    state, other = (jax.tree.map(checkpoints._to_host, tree) for tree in (state, other))
    jax.tree.map(np.testing.assert_array_equal, state, other)


@pytest.mark.standard_promotion
def test_goes_on_exactly(tmp_path):
    """Steps after a checkpoint are bitwise those of an unbroken run, draws included."""
    state = unbroken = _init()
    for _ in range(3):
        state = _step(state)
    store = checkpoints.Checkpoints(tmp_path)
    store.save(3, state, _position({"next_index": 3}))
    store.close()

    store = checkpoints.Checkpoints(tmp_path)
    step, state, position = store.restore(jax.eval_shape(_init))
    assert (step, position) == (3, _position({"next_index": 3}))
    for _ in range(2):
        state = _step(state)
    for _ in range(5):
        unbroken = _step(unbroken)
    _assert_equal(state, unbroken)


def test_a_new_folder_has_no_checkpoint(tmp_path):
    """A fresh start is told apart from a restart."""
    store = checkpoints.Checkpoints(tmp_path)
    assert store.restore(_init()) is None


def test_the_latest_are_kept(tmp_path):
    """Old checkpoints go, the latest stay, and a step is stored once."""
    store = checkpoints.Checkpoints(tmp_path, max_to_keep=2)
    for step in (1, 2, 3, 3):
        store.save(step, _init(), _position({"next_index": step}))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["2", "3"]


def test_an_unfinished_checkpoint_is_not_used(tmp_path, capsys):
    """What a kill during writing leaves behind is passed over, and cleared away."""
    run_config.claim(tmp_path, any_config())
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
    """A run's folder with checkpoints after steps 4 and 8, for tests to copy."""
    workdir = tmp_path_factory.mktemp("stored")
    run_config.claim(workdir, any_config())
    store = checkpoints.Checkpoints(workdir)
    for step in (4, 8):
        store.save(
            step,
            _init()._replace(step=jnp.int32(step)),
            _position({"next_index": step}),
        )
    store.close()
    return workdir


def _largest(folder):
    return max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)


def _truncate(folder):
    path = _largest(folder)
    os.truncate(path, path.stat().st_size // 2)


def _flip_a_bit(folder):
    path = _largest(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _remove_a_file(folder):
    _largest(folder).unlink()


def _lose_everything(folder):
    shutil.rmtree(folder)
    folder.mkdir()


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
    _truncate: r"its file state/.* is damaged: the SHA-256 is not the one",
    _flip_a_bit: r"its file state/.* is damaged: the SHA-256 is not the one",
    _remove_a_file: r"its file state/.* is missing",
    _lose_everything: r"not found",
    _lose_the_checksums_content: r"its SHA256SUMS is empty",
    _put_another_models: r"does not hold (the|a whole) state of",
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.items())
def test_the_newest_whole_checkpoint_is_used(stored, tmp_path, capsys, damage, reason):
    """To go on and to evaluate, with a warning; nothing is lost, nothing in the way."""
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
    """Never from zero: the error lists every checkpoint, and all stay in place."""
    workdir = shutil.copytree(stored, tmp_path / "run")
    _truncate(workdir / "checkpoints" / "4")
    _remove_a_file(workdir / "checkpoints" / "8")
    store = checkpoints.Checkpoints(workdir)
    with pytest.raises(cli.UserError) as error:
        store.restore(_init())
    store.close()
    lines = str(error.value).splitlines()
    assert lines[0].endswith("run has no checkpoint that is whole, and of its config:")
    assert "checkpoints/8 can't be used: its file" in lines[1]
    assert "checkpoints/4 can't be used: its file" in lines[2]
    assert runs.checkpoint_steps(workdir) == [4, 8]
    with pytest.raises(ValueError, match="has no checkpoint that is whole"):
        runs.read(workdir)


def test_a_checkpoint_that_cannot_be_written(tmp_path, monkeypatch):
    """The disk is full at the last moment: the one before stays, the next is stored."""
    store = checkpoints.Checkpoints(tmp_path)
    store.save(4, _init(), _position({"next_index": 4}))

    def rename(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", rename)
        with pytest.raises(cli.UserError) as error:
            store.save(8, _init(), _position({}))
    first, second = str(error.value).splitlines()
    assert first.startswith("the checkpoint of step 8 can't be written: [Errno 28] No ")
    assert second.startswith("Checkpoints are kept, the last good one is of step 4.")
    assert store.restore(_init()).position.batches == {"next_index": 4}
    store.save(8, _init(), _position({"next_index": 8}))
    assert store.restore(_init()).position.batches == {"next_index": 8}
    store.close()


def test_checksums_are_those_of_the_command(stored):
    """`sha256sum --check` may look after copies of a run."""
    folder = stored / "checkpoints" / "8"
    lines = (folder / released.CHECKSUMS).read_text().splitlines()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(lines) == len(files) - 1
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_a_position_of_an_older_version_is_taken():
    """It was the state of the batches alone. Anything else is damage."""
    here = {"next_index": 4}
    assert checkpoints._position(here) == (here, [])
    for stored in ({"index": 4}, [4], {"batches": 4}, {"batches": here, "rows": [1]}):
        with pytest.raises(ValueError, match="does not hold the position in the data"):
            checkpoints._position(stored)


def test_another_models_checkpoint_is_refused(tmp_path):
    """Other shapes or fields are an error that names the checkpoint."""
    store = checkpoints.Checkpoints(tmp_path)
    store.save(4, _init(size=3), _position({"next_index": 4}))
    message = r"checkpoints/4 can't be used: .*mean.* float32\[3\]"
    with pytest.raises(cli.UserError, match=message):
        store.restore(_init(size=7)._replace(params=_init().params))
    other = _init()._replace(params={"lavae": jnp.ones(3)})
    with pytest.raises(cli.UserError, match=r"checkpoints/4 can't be used"):
        store.restore(other)
    store.close()


def test_older_checkpoints_have_no_checksums(stored, tmp_path):
    """They are used where they can be read, and passed over where they can't."""
    workdir = shutil.copytree(stored, tmp_path / "run")
    for step in ("4", "8"):
        (workdir / "checkpoints" / step / released.CHECKSUMS).unlink()
    # In a process of its own: the reads under way at the first error end noisily.
    script = (
        "import os, pathlib, sys\n"
        "from lavae_jax import runs\n"
        "workdir = pathlib.Path(sys.argv[1])\n"
        "print(runs.read(workdir)[1:])\n"
        "for path in (workdir / 'checkpoints/8/state').rglob('d/*'):\n"
        "    path.write_bytes(b'cut off')\n"
        "run = runs.read(workdir)\n"
        "print(run.step, run.warning)\n"
    )
    whole, damaged = printed(script, workdir, XLA_FLAGS="").splitlines()
    assert whole.startswith("(8, {'params': {'kernel'") and whole.endswith("None)")
    assert damaged.startswith(f"4 the checkpoint {workdir}/checkpoints/8 can't be used")
    assert damaged.endswith(". The checkpoint of step 4 is used instead.")


@pytest.mark.standard_promotion
def test_variables_on_another_number_of_devices(tmp_path):
    """Stored with four devices from the last of them, read where there is one."""
    state = jax.device_put(_step(_init()), jax.devices()[-1])
    run_config.claim(tmp_path, any_config())
    checkpoints.Checkpoints(tmp_path).save(1, state, _position({}))
    script = (
        "import sys, jax\n"
        "from lavae_jax import runs\n"
        "run = runs.read(sys.argv[1])\n"
        "kernel = run.variables['params']['kernel']\n"
        "print(len(jax.devices()), run.step, kernel.tobytes().hex())\n"
    )
    kernel = np.asarray(state.params["lavae"]["kernel"]).tobytes().hex()
    assert printed(script, tmp_path, XLA_FLAGS="") == f"1 1 {kernel}\n"
