"""The paper's claims as numbers agree with loops over scenes."""

import numpy as np
import pytest

from datasets import load, scenes
from experiments.paper import subject as paper_subject
from experiments.paper.subject import Settings
from experiments.run import build
from tests import tiny_models

pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module")
def learned(config):
    """Makes a data set with images, and a model that counts none to many objects."""
    model = build.build_model(config)
    variables = tiny_models.random_variables(model, scale=0.2)
    folders = config.data.data_dir, None
    source = load.data_source("multi_dsprites/tiny", "test", *folders)
    images = np.stack([source[index]["image"] for index in range(12)])
    model = tiny_models.counting_some(model, variables, images)
    few = paper_subject.Images(
        "test",
        images,
        np.array([source[index]["n"] for index in range(12)]),
        paper_subject.infer(model, variables, images),
    )
    return paper_subject.Subject(
        "multi_dsprites/tiny", "Tiny", model, variables, None, few, few
    )


def test_counts_against_loops(learned):
    """Counts agree scene by scene, for every n that the maker has places for."""
    real, settings = load.scene_maker("multi_dsprites/tiny"), Settings(3, seed=5)

    def maker(split, index):
        if split.counts == (9,) and index != 1:
            raise ValueError("no place is left")
        if split.counts == (10,):
            raise ValueError("no place is left")
        return real(split, index)

    found = paper_subject.measure_counts(learned, maker, settings)
    assert found.num_scenes.tolist() == [3] * 9 + [1, 0]
    wanted = [(n, i) for n in range(10) for i in (range(3) if n < 9 else (1,))]
    examples = [real(scenes.extra_split(n, seed=5), index) for n, index in wanted]
    images = np.stack([example["image"] for example in examples])
    inferred = paper_subject.infer(learned.model, learned.variables, images).n
    confusion = np.zeros((11, 11), int)
    for example, (n, _), found_n in zip(examples, wanted, inferred, strict=True):
        assert example["n"] == n
        confusion[n, found_n] += 1
    np.testing.assert_array_equal(found.confusion, confusion)
    for n in range(10):
        assert found.accuracy[n] == confusion[n, n] / found.num_scenes[n]
    assert np.isnan(found.accuracy[10])


def test_calibration_against_loops(learned, config):
    """Frequencies are those of the training scenes that were not held out."""
    logits = np.linspace(1, -3, 11)
    params = {**learned.variables["params"], "prior_n_logits": logits}
    changed = learned._replace(variables={**learned.variables, "params": params})
    settings = Settings(data_dir=config.data.data_dir)
    found = paper_subject.measure_calibration(changed, 64, settings)
    source = load.data_source("multi_dsprites/tiny", "train", config.data.data_dir)
    n = [int(source[index]["n"]) for index in range(256 - 64)]
    assert found.num_scenes == 192
    expected = [n.count(k) / 192 for k in range(11)]
    np.testing.assert_allclose(found.frequencies, expected)
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(found.learned, p, rtol=1e-5)
    divergence = sum(f * np.log(f / q) for f, q in zip(expected, p, strict=True) if f)
    assert found.divergence == pytest.approx(divergence, rel=1e-4)
    assert paper_subject.measure_calibration(changed, 0, settings).num_scenes == 256
