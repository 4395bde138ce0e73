"""The paper's claims as numbers, against loops, and against models that break them."""

import numpy as np
import pytest

import lavae_jax
from datasets import load, scenes
from experiments import batched, build, paper_claims, paper_models, paper_subject
from experiments.paper_subject import Settings
from lavae_jax import disentanglement, editing, metrics, segmentation
from tests import tiny_models, tiny_subjects

pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module")
def subject():
    """Scenes of 0 to 4 objects, and of 2 with room to move."""
    return tiny_subjects.subject(
        tiny_subjects.images("test", [3, 0, 1, 4, 2, 2]),
        tiny_subjects.images("test_7", [2, 2, 2, 2], seed=1),
    )


@pytest.fixture(scope="module")
def learned(config):
    """A data set with images, and a model that counts from none to many objects."""
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
    return paper_claims.edited(subject, shown, what, np.random.default_rng(4))


@pytest.mark.parametrize("what", ["location", "appearance"])
def test_lavae_changes_nothing_outside_the_windows(subject, what):
    """Exactly; a moved object takes its pixels along, a new appearance changes them."""
    found = _edited(subject, subject.many, what)
    assert (found.split, found.what, found.outside) == ("test_7", what, 0)
    assert 0 < found.num_scenes <= 4
    few = _edited(subject, subject.few, "appearance")
    assert few.num_scenes == 4  # those with two objects and more
    nothing = tiny_subjects.images("test", [1, 0])
    assert _edited(subject, nothing, what) is None


@pytest.mark.parametrize("what", ["location", "appearance"])
def test_edits_against_the_edited_scenes(subject, what, monkeypatch):
    """All numbers from the two scenes that were rendered, computed one by one.

    The edit changes one object of each, to a free site or in every dimension.
    """
    rendered, render = [], batched.render

    def spy(model, variables, scene):
        rendered.append(scene)
        return render(model, variables, scene)

    monkeypatch.setattr(batched, "render", spy)
    found = _edited(subject, subject.many, what)
    before, after = rendered
    pictures = [render(subject.model, subject.variables, one) for one in rendered]
    sprites = batched.sprites(subject.model, subject.variables, before)
    labels = segmentation.segment(before.yx, before.active, sprites, (14, 11))
    outside, others, own = [], [], []
    slots = np.random.default_rng(4).integers(subject.many.scene.n)
    kept = []
    for image in range(len(before.n)):
        moved = (before.yx[image] != after.yx[image]).any(axis=-1)
        restyled = (before.z_app[image] != after.z_app[image]).all(axis=-1)
        changed, same = (moved, restyled) if what == "location" else (restyled, moved)
        (slot,) = np.flatnonzero(changed)
        assert not same.any()
        source = (subject.many.scene.yx == before.yx[image]).all(axis=(1, 2)).argmax()
        kept.append(source)
        assert slot == slots[source]
        old, new = before.yx[image, slot], after.yx[image, slot]
        if what == "location":
            free = disentanglement.free_sites(
                labels[image], slot, old, paper_claims.GAP
            )
            assert new.tolist() in free.tolist()
        one = disentanglement.change(
            *(picture[image : image + 1] for picture in pictures),
            labels[image : image + 1],
            np.array([slot]),
            old[None],
            new[None],
            5,
        )
        outside.append(one.outside[0])
        others.append(one.others[0])
        own.append(one.own[0])
    assert kept == sorted(kept) and found.num_scenes == len(kept)
    assert what == "location" or kept == [0, 1, 2, 3]
    assert found.outside == max(outside)
    assert found.others.mean == pytest.approx(np.nanmean(others))
    assert found.own.mean == pytest.approx(np.nanmean(own))
    again = batched.infer(
        subject.model, subject.variables, (pictures[1] > 0.5).astype(np.float32)
    )
    assert found.same_count == np.mean(again.n == after.n)
    assert found.location == metrics.location_error(
        [yx[: int(n)] for yx, n in zip(after.yx, after.n, strict=True)],
        [yx[: int(n)] for yx, n in zip(again.yx, again.n, strict=True)],
    )


def test_scenes_without_room_are_left_out(subject):
    """Objects that fill their image can't be moved, but can look otherwise."""
    full = tiny_subjects.images("test_7", [8, 8], seed=2)
    model = subject.model.clone(sprite_size=13)
    big = subject._replace(
        model=model, variables=tiny_models.random_variables(model, scale=0.8)
    )
    assert _edited(big, full, "location") is None
    assert _edited(big, full, "appearance").num_scenes == 2


@pytest.mark.parametrize("what", ["location", "appearance"])
def test_objects_that_depend_on_each_other_are_noticed(subject, what, monkeypatch):
    """Of a model whose background shines with the mean of all places or appearances."""
    render = batched.render

    def entangled(model, variables, scene):
        scene = lavae_jax.Scene(*map(np.asarray, scene))
        field = scene.yx if what == "location" else scene.z_app
        glow = np.tanh(field.sum(axis=(1, 2)) / 50)[:, None, None, None]
        return 0.5 * render(model, variables, scene) + 0.25 + 0.25 * glow

    monkeypatch.setattr(batched, "render", entangled)
    found = _edited(subject, subject.many, what)
    assert found.outside > 1e-3 and found.others.mean > 1e-4


def test_reordering_either_sequence_is_the_same(subject, monkeypatch):
    """No pixel differs; a model that paints by slot is noticed."""
    assert paper_claims.reordering(subject) < 1e-6
    render = batched.render

    def by_slot(model, variables, scene):
        return render(model, variables, editing.select(scene, [0]))

    monkeypatch.setattr(batched, "render", by_slot)
    assert paper_claims.reordering(subject) > 1e-2


def test_counts_against_loops(learned):
    """Scene by scene, for every n that the maker has places for."""
    real, settings = load.scene_maker("multi_dsprites/tiny"), Settings(3, seed=5)

    def maker(split, index):
        if split.counts == (9,) and index != 1:
            raise ValueError("no place is left")
        if split.counts == (10,):
            raise ValueError("no place is left")
        return real(split, index)

    found = paper_claims.counts(learned, maker, settings)
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
    """How often each n is in the training scenes that were not held out."""
    logits = np.linspace(1, -3, 11)
    params = {**learned.variables["params"], "prior_n_logits": logits}
    changed = learned._replace(variables={**learned.variables, "params": params})
    settings = Settings(data_dir=config.data.data_dir)
    found = paper_claims.calibration(changed, 64, settings)
    source = load.data_source("multi_dsprites/tiny", "train", config.data.data_dir)
    n = [int(source[index]["n"]) for index in range(256 - 64)]
    assert found.num_scenes == 192
    expected = [n.count(k) / 192 for k in range(11)]
    np.testing.assert_allclose(found.frequencies, expected)
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(found.learned, p, rtol=1e-5)
    divergence = sum(f * np.log(f / q) for f, q in zip(expected, p, strict=True) if f)
    assert found.divergence == pytest.approx(divergence, rel=1e-4)
    assert paper_claims.calibration(changed, 0, settings).num_scenes == 256


def test_images_of_a_subject(learned, config, tmp_path, monkeypatch):
    """The first images of both splits, with their true counts and inferred scenes."""
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
