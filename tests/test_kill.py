"""A run that is killed again and again comes to the end of one that is not.

LAVAE_KILLS is how often it is killed, once by default. The model is that of
`tests.mean_images`: `test_train` has a real one that goes on from its checkpoint.

The process that is killed runs python -m tests.test_kill WORKDIR DATA.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from lavae_jax import runs
from tests import mean_images, tiny_runs
from tests.commands import ROOT

KILLS = int(os.environ.get("LAVAE_KILLS", "1"))
NUM_STEPS = 6 * (KILLS + 1)


def _train(workdir, data_dir):
    """Starts or continues training, with a checkpoint after every step."""
    config = mean_images.six_steps(data_dir)
    config.update(num_steps=NUM_STEPS, log_every=3, checkpoint_every=1)
    mean_images.run(config, pathlib.Path(workdir))


def _start(workdir, data_dir):
    """Starts `_train` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.test_kill", workdir, data_dir],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )


def _is_writing(workdir):
    """Tells whether there is a checkpoint that is not complete."""
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


def _reported(workdir):
    """Returns the rows of metrics without speeds, and the bytes of the pictures."""
    rows = [tiny_runs.rows(workdir, part) for part in ("train", "held_out")]
    return rows, {p.name: p.read_bytes() for p in workdir.glob("pictures/*.png")}


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, data_dir):
    """The state, the place in the data, metrics and pictures are bitwise equal.

    `test_loop` has runs that are told to stop (SIGTERM).
    """
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    _train(unbroken, data_dir)
    rng = random.Random(0)
    for index in range(KILLS):
        process = _start(killed, data_dir)
        _kill_at_some_moment(process, killed, index, rng)
    _train(killed, data_dir)
    mean_images.assert_same_end(killed, unbroken)
    assert mean_images.last(killed)[0] == NUM_STEPS
    assert _reported(killed) == _reported(unbroken)
    assert not _is_writing(killed)
    assert not (killed / "damaged_checkpoints").exists()


if __name__ == "__main__":
    _train(*sys.argv[1:])
