"""The README's Python runs as it stands there, from the first line to the last."""

import re

import pytest

import lavae_jax
from tests.commands import ROOT


@pytest.mark.standard_promotion
def test_the_python_of_the_readme():
    """The README's blocks run in order, and make the scenes and pictures they name."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(block, names)
    model = names["model"]
    assert isinstance(model, lavae_jax.LAVAE)
    assert names["images"].shape == (16, *model.image_shape)
    assert names["moved"].yx[0, 1].tolist() == [20, 44]
    assert names["picture"].shape == (1, *model.image_shape)
