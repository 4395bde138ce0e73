"""A run of several processes ends together."""

import re

from lavae_jax import runs
from tests import mean_images
from tests.joined_processes import started


def test_a_signal_to_one_stops_all(tmp_path, data_dir):
    """Both stop after the same step, which is stored; the run goes on from it."""

    def arguments(address, index):
        return ("-m", "tests.mean_images", address, index, data_dir, tmp_path / "run")

    with started(arguments, tmp_path) as both:
        codes = [process.wait(timeout=600) for process in both]
    errors = [(tmp_path / f"{index}.err").read_text() for index in range(2)]
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
