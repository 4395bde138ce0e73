"""The card of a released model names the command that trains it."""

import json
import shlex
import types

import pytest
from absl import flags

from experiments import cli, release
from experiments.configs import baseline, mnist_10k
from tests import commands

VALUES = {
    "seed": 3,
    "optimizer.learning_rate": 1.5e-4,
    "elbo.superpose": 0.25,
    "model.image_shape": (32, 64, 1),
    "data.data_dir": "my data",
}


@pytest.mark.parametrize(
    ("module", "name", "values"),
    [(mnist_10k, "laptop", VALUES), (baseline, "mnist_1k:laptop", {"beta.steps": 7})],
)
def test_the_training_command_gives_the_config(module, name, values):
    """The command, read by a shell and by flags, gives the run's config."""
    config = module.get_config(name)
    config.update_from_flattened_dict(values)
    command = release.training_command(json.loads(config.to_json()), "runs/x")
    assert command.count("--config.") == len(values)
    flag = []
    parsed = types.SimpleNamespace(
        _define_flags=lambda: (
            flag.append(cli.define_config()),
            flags.DEFINE_string("workdir", None, ""),
        ),
        main=lambda: flag.append(flag[0].value.to_json()),
    )
    arguments = shlex.split(command.replace("\\\n", " "))[3:]
    status, said = commands.run_here(parsed, *arguments)
    assert status == 0, said
    assert json.loads(flag[1]) == json.loads(config.to_json())
