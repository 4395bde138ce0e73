"""A run that is killed again and again comes to the end of one that is not.

LAVAE_KILLS is how often it is killed, once by default.
"""

import os
import random
import signal
import subprocess
import sys
import time

import jax
import orbax.checkpoint as ocp

from lavae_jax import released, runs
from tests import compilation, event_files, tiny_runs
from tests.commands import ROOT

KILLS = int(os.environ.get("LAVAE_KILLS", "1"))
NUM_STEPS = 6 * (KILLS + 1)
COMMAND = (
    *(sys.executable, "-m", "experiments.train"),
    # The baseline starts in half the time of LAVAE.
    "--config=experiments/configs/baseline.py:dsprites:tiny",
    f"--config.num_steps={NUM_STEPS}",
    *("--config.checkpoint_every=1", "--config.log_every=3", "--config.eval_every=2"),
)


def _start(workdir, data_dir):
    """The command in a process of its own, on one device."""
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}", f"--config.data.data_dir={data_dir}"],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": " ".join(compilation.FAST)},
        stdout=subprocess.DEVNULL,
    )


def _is_writing(workdir):
    """Whether there is a checkpoint that is not complete."""
    return bool(list(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*")))


def _wait(process, condition):
    """Waits until a condition holds; the process must not end before."""
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.001)


def _kill_at_some_moment(process, workdir, index, rng):
    """Kills a run while it writes a checkpoint, between two, or while it starts."""
    stored = max(runs.checkpoint_steps(workdir), default=0)
    goal = stored + rng.randint(1, 4)
    if index % 5 == 4:
        time.sleep(rng.uniform(0, 3))
    else:
        _wait(process, lambda: max(runs.checkpoint_steps(workdir), default=0) >= goal)
        if index % 2 == 0:
            _wait(process, lambda: _is_writing(workdir))
        time.sleep(rng.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def _end(workdir):
    """All that a run has come to, without speeds, ready to be compared bit by bit."""
    folder = runs.checkpoint_folder(workdir) / str(NUM_STEPS)
    released.check_folder(folder)
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(folder / "state")
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        position = checkpointer.restore(folder / "data", args=ocp.args.JsonRestore())
    shown = event_files.shown(workdir / "tensorboard")
    return {
        "state": {
            jax.tree_util.keystr(path): (str(x.dtype), x.shape, x.tobytes())
            for path, x in jax.tree.leaves_with_path(state)
        },
        "position": position,
        "rows": [tiny_runs.rows(workdir, part) for part in ("train", "held_out")],
        "pictures": {p.name: p.read_bytes() for p in workdir.glob("pictures/*.png")},
        # Of the last steps before a kill, TensorBoard may lack some.
        "tags": {tag for _, tag in shown},
    }


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, data_dir):
    """Parameters, optimiser, place in the data, metrics and pictures are bitwise equal.

    `test_loop` has runs that are told to stop (SIGTERM).
    """
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    assert _start(unbroken, data_dir).wait() == 0
    rng = random.Random(0)
    for index in range(KILLS):
        process = _start(killed, data_dir)
        _kill_at_some_moment(process, killed, index, rng)
    assert _start(killed, data_dir).wait() == 0
    one, other = _end(unbroken), _end(killed)
    for part in one:
        assert one[part] == other[part], part
    assert not _is_writing(killed)
    assert not (killed / "damaged_checkpoints").exists()
