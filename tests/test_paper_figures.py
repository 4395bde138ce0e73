"""The figures of the paper show the scenes that they say, edited as they say."""

import jax
import numpy as np
import pytest

import lavae_jax
from experiments.paper import batched
from experiments.paper import edits as paper_edits
from experiments.paper import figures as paper_figures
from experiments.paper import subject as paper_subject
from lavae_jax import editing
from lavae_jax.types import Scene
from tests import figure_texts, tiny_models, tiny_subjects

pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module")
def subject():
    """Makes images: 1 and, of 7 objects, 0 are the first that are counted right."""
    return tiny_subjects.subject(
        tiny_subjects.images("test", [3, 3, 0, 2, 3], [2, 3, 0, 2, 3]),
        tiny_subjects.images("test_7", [7, 7], seed=1),
    )


def _panels(figure, columns):
    assert figure_texts.boxes(figure)
    panels = np.array(figure.axes).reshape(-1, columns)
    return panels, [
        [
            np.asarray(panel.images[0].get_array()) if panel.images else None
            for panel in row
        ]
        for row in panels
    ]


def _assert_shows(panel, means):
    """Compares up to rounding, which may differ between batches."""
    np.testing.assert_allclose(panel, np.clip(means, 0, 1), atol=1e-5)


def _sprites(subject, z_app):
    """Decodes the sprites of appearances [N, L] in one call."""
    z_app = np.pad(np.array(z_app)[:, None], ((0, 0), (0, 7), (0, 0)))
    n = np.ones(len(z_app), np.int32)
    active = np.arange(8) < n[:, None]
    scene = Scene(n, np.zeros((*active.shape, 2), np.int32), z_app, active)
    return batched.sprites(subject.model, subject.variables, scene)[:, 0]


def test_batches_change_nothing(subject):
    """Results are the same in several batches, of which the last is filled up."""
    scene = editing.take(subject.many.scene, np.arange(130) % 2)
    model, variables = subject.model, subject.variables
    found = batched.render(model, variables, scene)
    assert found.shape == (130, *tiny_subjects.SHAPE)
    expected = lavae_jax.render(model, variables, subject.many.scene)
    np.testing.assert_allclose(found, np.asarray(expected)[np.arange(130) % 2], 1e-5)
    again = batched.infer(model, variables, subject.many.images)
    whole = lavae_jax.infer(model, variables, subject.many.images)
    np.testing.assert_array_equal(again.n, whole.n)
    np.testing.assert_array_equal(again.yx, whole.yx)


def test_locations(subject):
    """One object at a time is moved, across in its row and down in its column."""
    figure, caption = paper_edits.locations(subject, subject.few, 3)
    panels, shown = _panels(figure, 2 + paper_edits.NUM_PLACES)
    scene = editing.take(subject.few.scene, 1)
    yx = np.asarray(scene.yx)[0]
    columns = np.linspace(2, 8, 7).round().astype(int)
    rows = np.linspace(2, 11, 7).round().astype(int)
    (original,) = tiny_subjects.rendered(subject, scene)
    assert "image 1 of `test`" in caption and len(shown) == 6
    np.testing.assert_array_equal(shown[0][0], subject.few.images[1] / 255)
    for line in range(6):
        slot, down = divmod(line, 2)
        _assert_shows(shown[line][1], original)
        assert line == 0 or shown[line][0] is None
        for place in range(7):
            to = (rows[place], yx[slot, 1]) if down else (yx[slot, 0], columns[place])
            moved = editing.move(scene, slot, to, tiny_subjects.SHAPE)
            (expected,) = tiny_subjects.rendered(subject, moved)
            _assert_shows(shown[line][2 + place], expected)
        (frame,) = panels[line, 1].patches
        y, x = yx[slot]
        assert frame.get_bbox().bounds == (x - 2.5, y - 2.5, 5, 5)
    assert [panel.get_title() for panel in panels[0][2:]] == [str(x) for x in columns]
    title = " ".join(figure.get_suptitle().split())
    assert title.endswith("the column (across) or the row (down) above, in pixels")


def test_appearances(subject):
    """The dimensions with the largest effect on the object are shown at every value."""
    figure, caption = paper_edits.appearances(subject, subject.many, 7)
    panels, shown = _panels(figure, 2 + len(paper_edits.VALUES))
    scene = editing.take(subject.many.scene, 0)
    effects = paper_subject.effects(subject, scene)
    order = sorted(range(4), key=lambda dim: -effects[dim])
    assert len(shown) == 4 and "Of all 4 dimensions" in caption
    for line, dim in enumerate(order):
        label = panels[line, 0].texts[0].get_text()
        assert label == f"dimension {dim}\n({effects[dim]:.3f})"
        for place, value in enumerate(paper_edits.VALUES):
            styled = editing.restyle(scene, 0, dim, value)
            (expected,) = tiny_subjects.rendered(subject, styled)
            _assert_shows(shown[line][2 + place], expected)
    titles = [panel.get_title() for panel in panels[0]]
    assert titles[:4] == ["input", "reconstruction", "−2.0", "−1.5"]
    assert titles[6] == "0"


def test_effects_against_loops(subject):
    """Effects are mean changes of the first sprites of scenes, over five values."""
    found = paper_subject.effects(subject, subject.few.scene)
    values, images = (-2, -1, 0, 1, 2), (0, 1, 3, 4)
    z_app = subject.few.scene.z_app
    changed = [z_app[image, 0] for image in images]
    for dim in range(4):
        for value in values:
            for image in images:
                changed.append(z_app[image, 0].copy())
                changed[-1][dim] = value
    decoded = _sprites(subject, changed)
    before, after = decoded[:4], decoded[4:].reshape(4, 5, 4, -1)
    for dim in range(4):
        changes = [
            np.abs(after[dim, value, image] - before[image].ravel()).mean()
            for value in range(5)
            for image in range(4)
        ]
        assert found[dim] == pytest.approx(np.mean(changes), rel=1e-4)
    nothing = tiny_subjects.images("test", [0, 0]).scene
    assert paper_subject.effects(subject, nothing).tolist() == [0, 0, 0, 0]


def test_swaps(subject):
    """Images counted right are shown swapped in both ways, and with z_loc reversed."""
    figure, _ = paper_edits.swaps(subject, subject.few, 3)
    panels, shown = _panels(figure, 2)
    assert [panel.get_title() for panel in panels[0]] == ["image 1", "image 4"]
    for column, image in enumerate((1, 4)):
        scene = editing.take(subject.few.scene, image)
        yx = np.asarray(scene.yx)
        swapped = scene._replace(yx=yx[:, [1, 0, 2, *range(3, 8)]])
        backwards = scene._replace(yx=yx[:, [2, 1, 0, *range(3, 8)]])
        np.testing.assert_array_equal(shown[0][column], subject.few.images[image] / 255)
        for line, one in enumerate((scene, swapped, swapped, backwards), start=1):
            (expected,) = tiny_subjects.rendered(subject, one)
            _assert_shows(shown[line][column], expected)
        assert len(panels[1, column].patches) == 2


def test_samples_beside_the_baseline(subject, monkeypatch):
    """Samples are those of `generate`; the caption says if there is no baseline."""
    monkeypatch.setattr(paper_figures, "NUM_SAMPLES", 9)
    figure, caption = paper_figures.samples(subject, seed=3)
    assert "baseline has not been trained" in caption and len(figure.subfigs) == 1
    model = lavae_jax.BaselineVAE((16, 16, 3), latent_channels=1, channels=4)
    baseline = model, tiny_models.random_variables(model)
    figure, caption = paper_figures.samples(subject._replace(baseline=baseline), seed=3)
    left, right = figure.subfigs
    assert figure_texts.boxes(figure)
    assert "baseline on the right" in caption
    key = jax.random.key(3)
    for part, (one, variables) in (
        (left, (subject.model, subject.variables)),
        (right, baseline),
    ):
        made = lavae_jax.generate(one, variables, key, 9)
        for panel, means in zip(part.axes, made, strict=True):
            _assert_shows(panel.images[0].get_array(), means)


def test_samples_of_5_and_6(subject):
    """A model with fewer than six slots has no figure of 5 and 6 objects."""
    figure, _ = paper_figures.samples_of_5_and_6(subject, seed=0)
    (part,) = figure.subfigs
    assert part.get_suptitle() == "Tiny: samples with p(n) replaced, n = 5 or 6"
    model = subject.model.clone(max_objects=5)
    with pytest.raises(paper_edits.NothingToShowError, match="no more than 5 objects"):
        paper_figures.samples_of_5_and_6(subject._replace(model=model), seed=0)


def test_figures_without_a_scene_are_left_out_with_a_reason(
    subject, tmp_path, monkeypatch
):
    """Where no image is counted right the page says so; other figures are drawn."""
    monkeypatch.setattr(paper_figures, "NUM_SAMPLES", 4)
    wrong = [
        tiny_subjects.images("test", [3, 2], [2, 3]),
        tiny_subjects.images("test_7", [7, 7], [6, 2]),
    ]
    wrong_subject = subject._replace(few=wrong[0], many=wrong[1])
    pictures = list(paper_figures.draw(wrong_subject, tmp_path, seed=0))
    assert [picture.name for picture in pictures] == paper_figures.names()
    for picture in pictures[:4]:
        assert (tmp_path / picture.file).stat().st_size > 1_000
    for picture in pictures[4:]:
        split, n = ("test", 3) if picture.name.endswith("_3") else ("test_7", 7)
        assert picture.file is None and picture.caption == (
            f"Left out: none of the first 2 images of {split} has {n} objects and is"
            " counted right."
        )
    black = tiny_subjects.images("test", [0, 0])
    with pytest.raises(paper_edits.NothingToShowError, match="test that were read are"):
        paper_figures.inference(subject, black, 4)


def test_numbered_figures_exist():
    """Every figure of the paper is one of those that are drawn."""
    assert sorted(paper_figures.IN_THE_PAPER) == list(range(1, 12))
    for _, names in paper_figures.IN_THE_PAPER.values():
        assert set(names) <= set(paper_figures.names())
