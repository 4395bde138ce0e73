"""The README's Python runs as it stands there, from the first line to the last."""

import re

import numpy as np
import pytest

import lavae_jax
from tests.commands import ROOT


@pytest.mark.standard_promotion
def test_the_python_of_the_readme():
    """Its blocks one after the other: what they call scenes, bounds and pictures is."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(block.replace("num_samples=100", "num_samples=2"), names)  # for its time
    model = names["model"]
    assert isinstance(model, lavae_jax.LAVAE)
    assert names["images"].shape == (16, *model.image_shape)
    bound = np.asarray(names["bound"])
    assert bound.shape == (16,) and (bound < 0).all()
    scene, moved, swapped = (names[name] for name in ("scene", "moved", "swapped"))
    assert moved.yx[0, 1].tolist() == [20, 44]
    assert (swapped.yx[0, 0] == scene.yx[0, 1]).all()
    assert names["means"].shape == (4, 3, *model.image_shape)
    assert names["grid"].z_app[:, 0, 0].tolist()[:3] == [-2, 0, 2]
