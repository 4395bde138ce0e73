"""A run goes on from its checkpoints exactly, and refuses what is not its own."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from experiments import checkpoints, cli
from lavae_jax.training.state import TrainState
from tests.commands import printed

OPTIMIZER = optax.multi_transform(
    {"fast": optax.adamax(1e-2), "slow": optax.adamax(1e-3)},
    {"lavae": "fast", "auxiliary": "slow"},
)


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


def _config(**changes):
    config = ConfigDict({"seed": 0, "num_steps": 10, "sizes": (1, 2)})
    config.optimizer = ConfigDict({"learning_rate": 1e-3})
    config.update(changes)
    return config


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
    store.save(3, state, {"next_index": 3})
    store.close()

    store = checkpoints.Checkpoints(tmp_path)
    step, state, data_state = store.restore(jax.eval_shape(_init))
    assert (step, data_state) == (3, {"next_index": 3})
    for _ in range(2):
        state = _step(state)
    for _ in range(5):
        unbroken = _step(unbroken)
    _assert_equal(state, unbroken)


def test_a_new_folder_has_no_checkpoint(tmp_path):
    """A fresh start is told apart from a restart."""
    store = checkpoints.Checkpoints(tmp_path)
    assert store.latest_step() is None
    assert store.restore(_init()) is None


def test_the_latest_are_kept(tmp_path):
    """Old checkpoints go, the latest stay, and a step is stored once."""
    store = checkpoints.Checkpoints(tmp_path, max_to_keep=2)
    for step in (1, 2, 3, 3):
        store.save(step, _init(), {"next_index": step})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["2", "3"]


def test_an_unfinished_checkpoint_is_not_used(tmp_path):
    """What a kill during writing leaves behind is passed over."""
    store = checkpoints.Checkpoints(tmp_path)
    store.save(4, _init(), {})
    store.close()
    (tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir()
    assert checkpoints.Checkpoints(tmp_path).restore(_init()).step == 4
    checkpoints.claim(tmp_path, _config())
    assert checkpoints.restore_variables(tmp_path).step == 4


def test_another_models_checkpoint_is_refused(tmp_path):
    """Other shapes or fields are an error that names the checkpoint."""
    store = checkpoints.Checkpoints(tmp_path)
    store.save(4, _init(size=3), {})
    with pytest.raises(cli.UserError, match=r"checkpoints/4 .*mean.* float32\[3\]"):
        store.restore(_init(size=7)._replace(params=_init().params))
    other = _init()._replace(params={"lavae": jnp.ones(3)})
    with pytest.raises(cli.UserError, match=r"checkpoints/4 can't be read"):
        store.restore(other)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    """A cut-off file is an error that says what to do, not a wrong model."""
    checkpoints.claim(tmp_path, _config())
    checkpoints.Checkpoints(tmp_path).save(4, _init(), {})
    for path in (tmp_path / "checkpoints/4/state").rglob("d/*"):
        path.write_bytes(b"cut off")
    # In a process of its own: the reads under way at the first error end noisily.
    script = (
        "import sys\n"
        "from experiments import checkpoints, cli\n"
        "try:\n"
        "    checkpoints.restore_variables(sys.argv[1])\n"
        "except cli.UserError as error:\n"
        "    print(error)\n"
    )
    message = printed(script, tmp_path, XLA_FLAGS="")
    assert message.startswith(f"the checkpoint {tmp_path}/checkpoints/4 can't be read")
    assert message.endswith("Delete this folder to go on from the one before it.\n")


@pytest.mark.standard_promotion
def test_variables_on_another_number_of_devices(tmp_path):
    """Stored with four devices from the last of them, read where there is one."""
    state = jax.device_put(_step(_init()), jax.devices()[-1])
    checkpoints.claim(tmp_path, _config())
    checkpoints.Checkpoints(tmp_path).save(1, state, {})
    script = (
        "import sys, jax\n"
        "from experiments import checkpoints\n"
        "config, step, variables = checkpoints.restore_variables(sys.argv[1])\n"
        "kernel = variables['params']['kernel']\n"
        "print(len(jax.devices()), step, config.sizes, kernel.tobytes().hex())\n"
    )
    kernel = np.asarray(state.params["lavae"]["kernel"]).tobytes().hex()
    assert printed(script, tmp_path, XLA_FLAGS="") == f"1 1 (1, 2) {kernel}\n"


def test_variables_of_no_run(tmp_path):
    """A folder without a run, or without a checkpoint yet, is refused as such."""
    with pytest.raises(cli.UserError, match=r"no config\.json"):
        checkpoints.restore_variables(tmp_path / "absent")
    checkpoints.claim(tmp_path, _config())
    with pytest.raises(cli.UserError, match="no checkpoint yet"):
        checkpoints.restore_variables(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(cli.UserError, match=r"config\.json can't be read"):
        checkpoints.restore_variables(tmp_path)


def test_another_config_is_refused(tmp_path):
    """A workdir in use is not overwritten: every difference is listed."""
    checkpoints.claim(tmp_path, _config())
    checkpoints.Checkpoints(tmp_path).save(1, _init(), {})
    other = _config(seed=1, num_steps=20, extra=4)
    with pytest.raises(cli.UserError) as error:
        checkpoints.claim(tmp_path, other)
    lines = str(error.value).splitlines()
    assert lines[1:3] == ["  extra: absent there, 4 here", "  seed: 0 there, 1 here"]
    assert len(lines) == 4
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_a_run_may_be_extended(tmp_path):
    """The same config, or one that differs in length only, goes on; it is kept."""
    checkpoints.claim(tmp_path, _config())
    checkpoints.Checkpoints(tmp_path).save(1, _init(), {})
    checkpoints.claim(tmp_path, _config())
    checkpoints.claim(tmp_path, _config(num_steps=20))
    assert checkpoints.read_config(tmp_path) == _config(num_steps=20)


def test_a_new_length_says_what_it_does_to_a_cosine(tmp_path, capsys):
    """Once, and only where the learning rates depend on the length."""
    for decay in ("cosine", "constant"):
        workdir = tmp_path / decay
        config = _config(optimizer={"decay": decay})
        longer = _config(optimizer={"decay": decay}, num_steps=20)
        checkpoints.claim(workdir, config)
        checkpoints.Checkpoints(workdir).save(7, _init(), {})
        checkpoints.claim(workdir, config)
        assert not capsys.readouterr().out
        checkpoints.claim(workdir, longer)
        said = capsys.readouterr().out
        checkpoints.claim(workdir, longer)
        assert not capsys.readouterr().out
        checkpoints.claim(workdir, _config(optimizer={"decay": decay}, num_steps=7))
        assert not capsys.readouterr().out  # nothing is left to train
        if decay == "constant":
            assert not said
        else:
            assert "was to end after step 10, and now does after step 20" in said
            assert "from step 7 on, its learning rates jump to those of a" in said


def test_a_workdir_without_checkpoints_is_free(tmp_path):
    """A run that never stored anything doesn't hold its folder."""
    checkpoints.claim(tmp_path, _config())
    checkpoints.claim(tmp_path, _config(seed=1))
    assert checkpoints.read_config(tmp_path).seed == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    """A path below a file is refused with the path, before anything is computed."""
    (tmp_path / "file").write_text("")
    with pytest.raises(cli.UserError, match="file"):
        checkpoints.claim(tmp_path / "file" / "run", _config())
