"""The card of a released model names the command that trains it."""

import json
import shlex
import subprocess
import sys

import pytest

from experiments.configs import baseline_mnist_1k, dsprites, mnist_10k
from experiments.measure import model_card
from tests import commands


@pytest.mark.parametrize(
    ("module", "variant", "values", "expected"),
    [
        (dsprites, "laptop", {}, ["dsprites.py:laptop"]),
        (
            mnist_10k,
            "paper",
            {
                "seed": 3,
                "optimizer.learning_rate": 1.5e-4,
                "elbo.superpose": 0.5,
                "model.image_shape": (32, 64, 1),
                "data.data_dir": "my data",
            },
            ["mnist_10k.py:paper", "--config.seed=3", "image_shape=(32, 64, 1)'"],
        ),
        (
            baseline_mnist_1k,
            "laptop",
            {"beta.steps": 7},
            ["baseline_mnist_1k.py:laptop", "--config.beta.steps=7"],
        ),
    ],
)
def test_the_training_command_gives_the_config(module, variant, values, expected):
    """The command, read by a shell and by flags, gives the run's config."""
    config = module.get_config(variant)
    config.update_from_flattened_dict(values)
    command = model_card.training_command(json.loads(config.to_json()), "runs/x")
    for text in (*expected, "python -m experiments.train", "--workdir=runs/x"):
        assert text in command
    assert command.count("--config.") == len(values)
    script = (
        "from absl import flags\n"
        "from experiments import cli\n"
        "cli.define_config()\n"
        "flags.DEFINE_string('workdir', None, '')\n"
        "cli.run(lambda: print(flags.FLAGS.config.to_json()))\n"
    )
    program = shlex.join([sys.executable, "-c", script])
    done = subprocess.run(
        command.replace("python -m experiments.train", program),
        shell=True,
        cwd=commands.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads(config.to_json())
