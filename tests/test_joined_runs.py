"""How a run of several processes ends, when one of them has to."""

import re

from lavae_jax import runs
from tests import mean_images
from tests.joined_processes import started


def _ended(folder, data_dir, ending):
    """The exit codes of two processes, and what went to stderr."""

    def arguments(address, index):
        workdir = folder / "run"
        return ("-m", "tests.mean_images", address, index, data_dir, workdir, ending)

    with started(arguments, folder) as both:
        codes = [process.wait(timeout=600) for process in both]
    return codes, [(folder / f"{index}.err").read_text() for index in range(2)]


def test_a_signal_to_one_stops_all(tmp_path, data_dir):
    """Both stop after the same step, which is stored; the run goes on from it."""
    codes, errors = _ended(tmp_path, data_dir, "signal")
    assert codes == [130, 130], errors
    stopped = [re.search(r"stopped after step (\d+)", error)[1] for error in errors]
    assert stopped[0] == stopped[1]
    step = int(stopped[0])
    config = mean_images.six_steps(data_dir)
    never = 10**6
    config.update(eval_every=never, picture_every=never, checkpoint_every=never)
    config.num_steps = step
    assert runs.checkpoint_steps(tmp_path / "run") == [step]
    mean_images.run(config, tmp_path / "alone", num_devices=4)
    mean_images.assert_close_end(tmp_path / "run", tmp_path / "alone")
    config.num_steps = step + 1
    assert mean_images.run(config, tmp_path / "run", num_devices=4).step == step + 1


def test_an_error_of_one_ends_all(tmp_path, data_dir):
    """Each says whose it was, instead of waiting for it.

    Nor do they begin with another config than it has.
    """
    codes, errors = _ended(tmp_path, data_dir, "full disk")
    assert codes == [1, 1], errors
    for error in errors:
        assert error.startswith("process 1: its --config has other values than that of")
        assert "\nerror: process 0: [Errno 27] File too large" in error
    assert not runs.checkpoint_steps(tmp_path / "run")
