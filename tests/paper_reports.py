"""Reports and released models for tests of the paper's table and figures."""

import json

import numpy as np

from lavae_jax import pretrained, released
from lavae_jax.config import build_model, from_run
from tests import tiny_models


def like_shipped(seed, cost, counts, dataset="multi_dsprites", **config):
    """A report of the shipped kind with other figures on `test`; as JSON holds it."""
    value = json.loads((pretrained.FOLDER / "multi_dsprites/report.json").read_text())
    value["config"].update(config)
    value["config"]["seed"] = seed
    value["config"]["data"].update(name=dataset, num_valid=64)
    split = value["splits"][0]
    split["bounds"][-1]["negative_log_p"]["mean"] = cost
    if counts is None:
        for split in value["splits"]:
            split["truth"] = split["counts"] = None
    else:
        split["truth"]["count_accuracy"] = counts
    return value


def release(folder, reports, **variables):
    """A released model of the config of these reports, with parameters of no meaning.

    They are those of `tiny_models.random_variables`, which takes `variables`.
    """
    first, *others = reports
    model = build_model(from_run(first["config"]))
    tensors = pretrained.flatten(tiny_models.random_variables(model, **variables))
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    released.write(
        folder,
        released.Released(tensors, first["config"], first, "", tuple(others)),
    )
