"""A value that a config can't have ends the command that trains, before it begins."""

import numpy as np
import pytest

from experiments import train
from tests.commands import ROOT, refused
from tests.own_scenes import squares

CONFIGS = ROOT / "experiments" / "configs"

VALUES = {
    "seed=-1": "seed must be from 0 to 4294967295",
    "num_steps=0": "num_steps must be at least 1: got 0.",
    "batch_size=-8": "batch_size must be at least 1: got -8.",
    "checkpoint_every=0": "checkpoint_every must be at least 1: got 0.",
    "num_eval_images=65": "num_eval_images must be from 1 to data.num_valid = 64",
    "data.num_valid=256": "data.num_valid = 256 leaves nothing to train on",
    "data.name=dsprites": "Unknown data set 'dsprites'.",
    "data.name=multi_mnist/1k": "take the config of this data set.",
    "model.image_shape=(32,32,3)": "take the config of this data set.",
    "model.image_shape=(64,64)": "take the config of this data set.",
    "model.max_objects=2": "has scenes with 3 objects, and f_count never counts more",
    "model.app_dim=0": "model.app_dim must be at least 1: got 0.",
    "model.sprite_size=20": "model.sprite_size must be odd: got 20.",
    "model.epsilon=0.5": "model.epsilon must be in (0, 0.5): got 0.5.",
    "model.gamma=nan": "model.gamma must be positive: got nan.",
    "model.norm=layer": "model.norm must be one of batch, none: got layer.",
    "model.stem_stride=3": "model.stem_stride must divide the image's height and",
    "optimizer.learning_rate=0": "optimizer.learning_rate must be positive: got 0.0.",
    "optimizer.learning_rate=inf": "optimizer.learning_rate must be positive: got inf.",
    "optimizer.name=sgd": "optimizer.name must be one of adamax, adam: got sgd.",
    "warmup.location_weight=inf": "warmup.location_weight must be",
    "elbo.superpose=2": "elbo.superpose must be from 0 to 1: got 2.0.",
    "elbo.draws=relaxed": "needs elbo.draws=score: got relaxed.",
    "batch_size=many": "takes a whole number, such as 8: got 'many'",
    "batch_size=1.5": "takes a whole number, such as 8: got '1.5'",
    "model.gamma=big": "--config.model.gamma takes a number, such as 4.0: got 'big'",
    "model.image_shape=wide": "model.image_shape is ('wide',): take the config of",
    "batch_sise=8": "Did you mean --config.batch_size?",
    "model=3": "--config.model is a group of values",
}

OWN_VALUES = {
    "model.image_shape=(32,32)": "(rows, columns, channels): got (32, 32).",
    "model.image_shape=wide": "(rows, columns, channels): got ('wide',).",
    "model.gamma=big": "--config.model.gamma takes a number: got 'big'.",
    "model.max_objects=2": "have more objects by their n than model.max_objects = 2",
}


def _said(tmp_path, config, override, *data):
    """What is said of it, before there is a workdir."""
    said = refused(
        f"--config.{override}",
        tmp_path,
        train,
        f"--config={CONFIGS}/{config}.py:tiny",
        *data,
        f"--config.{override}",
        f"--workdir={tmp_path}/run",
        "--nodistributed",
    )
    assert not (tmp_path / "run").exists()
    return said


@pytest.mark.parametrize("override", VALUES)
def test_values_of_the_config(tmp_path, data_dir, override):
    """`experiments.train` refuses them before there is a workdir."""
    data = f"--config.data.data_dir={data_dir}"
    assert VALUES[override] in _said(tmp_path, "dsprites", override, data)


@pytest.mark.parametrize("override", OWN_VALUES)
def test_values_of_a_config_of_own_images(tmp_path, override):
    """Those that are open, and one that the images speak against."""
    images, n = squares(40, (32, 32, 3), most=3)
    np.savez(tmp_path / "own.npz", images=images, n=n)
    data = f"--config.data.path={tmp_path}/own.npz"
    assert OWN_VALUES[override] in _said(tmp_path, "custom", override, data)
