"""The paper's claims as numbers agree with loops over scenes."""

import numpy as np
import pytest

from datasets import load, scenes
from experiments import build
from experiments.paper import batched
from experiments.paper import claims as paper_claims
from experiments.paper import models as paper_models
from experiments.paper import subject as paper_subject
from experiments.paper.subject import Settings
from lavae_jax import metrics, segmentation
from tests import tiny_models, tiny_subjects

pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module")
def subject():
    """Makes scenes of 0 to 4 objects, and of 2 objects with room to move."""
    return tiny_subjects.subject(
        tiny_subjects.images("test", [3, 0, 1, 4, 2, 2]),
        tiny_subjects.images("test_7", [2, 2, 2, 2], seed=1),
    )


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
        batched.infer(model, variables, images),
    )
    return paper_subject.Subject(
        "multi_dsprites/tiny", "Tiny", model, variables, None, few, few
    )


def _edited(subject, shown, what):
    return paper_claims.measure_edit(subject, shown, what, np.random.default_rng(4))


@pytest.mark.parametrize("what", ["location", "appearance"])
def test_edits_against_the_edited_scenes(subject, what, monkeypatch):
    """One object of each scene is changed as asked, and what is found is compared.

    It goes to a free site, or gets another value in every dimension.
    """
    rendered, render = [], batched.render

    def spy(model, variables, scene):
        rendered.append(scene)
        return render(model, variables, scene)

    monkeypatch.setattr(batched, "render", spy)
    found = _edited(subject, subject.many, what)
    (after,) = rendered
    before = subject.many.scene
    slots = np.random.default_rng(4).integers(before.n)
    sprites = batched.sprites(subject.model, subject.variables, before)
    labels = segmentation.segment(before.yx, before.active, sprites, (14, 11))
    assert (found.split, found.what) == ("test_7", what)
    assert found.num_scenes == len(after.n) and 0 < found.num_scenes <= 4
    sources = []
    for image in range(len(after.n)):
        unchanged = "z_app" if what == "location" else "yx"
        same = getattr(before, unchanged) == getattr(after, unchanged)[image]
        source = same.all(axis=(1, 2)).argmax()
        moved = (before.yx[source] != after.yx[image]).any(axis=-1)
        restyled = (before.z_app[source] != after.z_app[image]).all(axis=-1)
        changed, kept = (moved, restyled) if what == "location" else (restyled, moved)
        assert np.flatnonzero(changed).tolist() == [slots[source]] and not kept.any()
        if what == "location":
            slot = slots[source]
            old_yx, new_yx = before.yx[source, slot], after.yx[image, slot]
            free = paper_claims.free_sites(
                labels[source], slot, old_yx, paper_claims.GAP
            )
            assert new_yx.tolist() in free.tolist()
        sources.append(source)
    assert sources == sorted(set(sources))
    picture = render(subject.model, subject.variables, after)
    again = batched.infer(
        subject.model, subject.variables, (picture > 0.5).astype(np.float32)
    )
    assert found.same_count == np.mean(again.n == after.n)
    assert found.location == metrics.location_error(
        [yx[: int(n)] for yx, n in zip(after.yx, after.n, strict=True)],
        [yx[: int(n)] for yx, n in zip(again.yx, again.n, strict=True)],
    )


def test_only_scenes_with_two_objects_and_room_are_edited(subject):
    """Objects that fill their image can't be moved, but can look otherwise."""
    assert _edited(subject, subject.few, "appearance").num_scenes == 4
    nothing = tiny_subjects.images("test", [1, 0])
    assert _edited(subject, nothing, "location") is None
    full = tiny_subjects.images("test_7", [8, 8], seed=2)
    model = subject.model.clone(sprite_size=13)
    big = subject._replace(
        model=model, variables=tiny_models.random_variables(model, scale=0.8)
    )
    assert _edited(big, full, "location") is None
    assert _edited(big, full, "appearance").num_scenes == 2


@pytest.mark.parametrize("gap", [0, 1])
def test_free_sites_against_trying_all(gap):
    """They are those found by trying every site, for an asymmetric object."""
    size = 9, 12
    labels = np.zeros(size, int)
    labels[3, 4:7] = labels[4, 6] = 2
    labels[0, 0:5] = labels[7, 9] = 1
    yx = np.array([4, 5])
    expected = []
    for y, x in np.ndindex(size):
        there = np.argwhere(labels == 2) - yx + (y, x)
        inside = ((there >= 0) & (there < size)).all()
        (top, left), (bottom, right) = there.min(axis=0), there.max(axis=0)
        box = [
            labels[v, u]
            for v in range(top - gap, bottom + gap + 1)
            for u in range(left - gap, right + gap + 1)
            if 0 <= v < size[0] and 0 <= u < size[1]
        ]
        if inside and 1 not in box:
            expected.append([y, x])
    found = paper_claims.free_sites(labels, 1, yx, gap)
    assert found.tolist() == expected
    assert [4, 5] in expected and 20 < len(expected) < 75


def test_free_sites_of_objects_without_pixels_or_room():
    """An object without pixels can go anywhere; one that fills its image must stay."""
    labels = np.ones((9, 12), int)
    assert len(paper_claims.free_sites(labels, 3, np.array([0, 0]))) == 108
    assert paper_claims.free_sites(labels, 0, np.array([2, 7])).tolist() == [[2, 7]]


def test_counts_against_loops(learned):
    """Counts agree scene by scene, for every n that the maker has places for."""
    real, settings = load.scene_maker("multi_dsprites/tiny"), Settings(3, seed=5)

    def maker(split, index):
        if split.counts == (9,) and index != 1:
            raise ValueError("no place is left")
        if split.counts == (10,):
            raise ValueError("no place is left")
        return real(split, index)

    found = paper_claims.measure_counts(learned, maker, settings)
    assert found.num_scenes.tolist() == [3] * 9 + [1, 0]
    wanted = [(n, i) for n in range(10) for i in (range(3) if n < 9 else (1,))]
    examples = [real(scenes.extra_split(n, seed=5), index) for n, index in wanted]
    images = np.stack([example["image"] for example in examples])
    inferred = batched.infer(learned.model, learned.variables, images).n
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
    found = paper_claims.measure_calibration(changed, 64, settings)
    source = load.data_source("multi_dsprites/tiny", "train", config.data.data_dir)
    n = [int(source[index]["n"]) for index in range(256 - 64)]
    assert found.num_scenes == 192
    expected = [n.count(k) / 192 for k in range(11)]
    np.testing.assert_allclose(found.frequencies, expected)
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(found.learned, p, rtol=1e-5)
    divergence = sum(f * np.log(f / q) for f, q in zip(expected, p, strict=True) if f)
    assert found.divergence == pytest.approx(divergence, rel=1e-4)
    assert paper_claims.measure_calibration(changed, 0, settings).num_scenes == 256


def test_images_of_a_subject(learned, config, tmp_path, monkeypatch):
    """A subject has the first images of both splits, their n and inferred scenes."""
    loaded = {"LAVAE": (learned.model, learned.variables), "baseline": ("b", {})}
    monkeypatch.setattr(paper_models, "load", lambda models: loaded[models.family])
    lavae, baseline = (
        paper_models.Models("multi_dsprites/tiny", family, source=tmp_path)
        for family in paper_models.FAMILIES
    )
    settings = Settings(num_images=12, data_dir=config.data.data_dir)
    found = paper_subject.look(lavae, baseline, settings)
    np.testing.assert_array_equal(found.few.images, learned.few.images)
    np.testing.assert_array_equal(found.few.n, learned.few.n)
    np.testing.assert_array_equal(found.few.scene.n, learned.few.scene.n)
    assert found.many.split == "test_7" and found.many.n.tolist() == [7] * 12
    assert found.baseline == ("b", {})
    without = paper_subject.look(lavae, baseline._replace(source=None), settings)
    assert without.baseline is None
