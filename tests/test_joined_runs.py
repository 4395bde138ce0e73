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
    """After the same step, which is stored; the run goes on from it."""
    codes, errors = _ended(tmp_path, data_dir, "signal")
    assert codes == [130, 130], errors
    stopped = [re.search(r"stopped after step (\d+)", error)[1] for error in errors]
    assert stopped[0] == stopped[1]
    step = int(stopped[0])
    assert runs.checkpoint_steps(tmp_path / "run") == [step]
    config = mean_images.six_steps(data_dir)
    config.num_steps = step + 1
    assert mean_images.run(config, tmp_path / "run", num_devices=4).step == step + 1
