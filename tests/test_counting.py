"""Objects of images of any size are those that the model finds in small ones."""

import jax
import numpy as np
import pytest
from PIL import Image

import lavae_jax
from datasets import load, scenes
from lavae_jax import counting
from tests import reference, tiny_models

pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module", name="released")
def _released():
    return lavae_jax.load_pretrained("multi_dsprites")


def _scenes(n, num):
    make = load.scene_maker("multi_dsprites")
    return [make(scenes.extra_split(n, seed=3), index) for index in range(num)]


@pytest.fixture(scope="module", name="made")
def _made():
    return [*_scenes(3, 2), *_scenes(0, 1), *_scenes(7, 2)]


def _sorted(yx):
    return sorted(map(tuple, np.asarray(yx).tolist()))


def test_images_of_the_models_size(released, made):
    """They have the objects that `infer` finds, whatever other images come along."""
    images = [scene["image"] for scene in made]
    inferred = lavae_jax.infer(*released, np.stack(images))
    wide = np.zeros((70, 90, 3), np.uint8)
    found = lavae_jax.find_objects(*released, [images[0], wide, *images[1:]])
    assert found.pop(1).n == 0
    for index, one in enumerate(found):
        expected = inferred.yx[index][inferred.active[index]]
        assert _sorted(one.yx) == _sorted(expected)
        assert one.n == made[index]["n"]


def test_boxes_are_those_of_the_objects(released, made):
    """A box is as large as its object, to a pixel, and cut at the border."""
    found = lavae_jax.find_objects(*released, [scene["image"] for scene in made])
    for scene, one in zip(made, found, strict=True):
        true = scene["box"][: scene["n"]]
        order = [np.abs(true - box).sum(axis=1).argmin() for box in one.box]
        assert len(set(order)) == len(true)
        assert np.abs(true[order] - one.box).max(initial=0) <= 1
        assert one.box.min(initial=0) >= 0 and one.box.max(initial=0) <= 64


def test_large_images(released, made):
    """A scene inside a larger black image, or many in one, has the same objects."""
    small = lavae_jax.find_objects(*released, [scene["image"] for scene in made])
    large = np.zeros((2, 3 * 64 + 20, 200, 3), np.uint8)
    large[0, 40:104, 66:130] = made[0]["image"]
    for index, scene in enumerate(made):
        row, column = divmod(index, 2)
        top, left = 70 * row, 70 * column
        large[1, top : top + 64, left : left + 64] = scene["image"]
    alone, together = lavae_jax.find_objects(*released, large)
    np.testing.assert_array_equal(alone.yx, small[0].yx + np.array((40, 66)))
    shift = np.array((40, 66, 40, 66))
    np.testing.assert_array_equal(alone.box, small[0].box + shift)
    # The place is one of 212×200 instead of 64×64.
    expected = small[0].log_evidence - np.log(212 * 200 / (64 * 64))
    np.testing.assert_allclose(alone.log_evidence, expected, rtol=1e-3)
    corners = [(70 * row, 70 * column) for row in range(3) for column in range(2)]
    expected = [one.yx + np.array(c) for one, c in zip(small, corners, strict=False)]
    assert _sorted(together.yx) == _sorted(np.concatenate(expected))
    assert together.n == 20 > released[0].max_objects


def test_evidence(released, made):
    """The evidence of an object is what removing it costs, by NumPy and float64."""
    model, variables = released
    image = made[3]["image"]
    (found,) = lavae_jax.find_objects(model, variables, [image])
    scene = lavae_jax.infer(model, variables, image[None])
    sprites = np.float64(lavae_jax.sprites(model, variables, scene))[0]
    site = np.asarray(scene.yx[..., 0] * 64 + scene.yx[..., 1])
    x, side = (image > 0).astype(float), model.sprite_size

    def log_px(active):
        canvas = np.zeros((63 + side, 63 + side, 3))
        for slot in np.flatnonzero(active):
            row, column = scene.yx[0, slot]
            canvas[row : row + side, column : column + side] += sprites[slot]
        canvas = canvas[side // 2 :, side // 2 :][:64, :64]
        return reference.log_likelihood(x, canvas, model.epsilon).sum()

    def parameters(x):
        bound = model.bind(variables)
        locations = lavae_jax.types.hard_locations(site, scene.active)
        return bound.appearance(bound.appearance_features(x), locations)

    q = reference.float64(jax.jit(parameters)(np.float32(x[None])))
    kl = reference.gaussian_kl(*q)[0]
    active = np.asarray(scene.active[0])
    expected = {}
    for slot in np.flatnonzero(active):
        without = active & (np.arange(len(active)) != slot)
        gain = log_px(active) - log_px(without)
        expected[tuple(scene.yx[0, slot].tolist())] = gain - kl[slot] - np.log(64 * 64)
    evidence = [expected[tuple(yx)] for yx in found.yx.tolist()]
    np.testing.assert_allclose(found.log_evidence, evidence, rtol=1e-3, atol=0.5)
    assert (found.log_evidence > 0).all()


@pytest.mark.parametrize("background", ["constant", "smooth"])
def test_images_of_many_values(background):
    """Images of the model's size have as many objects as `infer` finds.

    In a larger image, which is padded to 64×64 here, h_loc reads what is left without
    the background of windows. Near the right and lower border, its layers see a margin
    of background, where they would see zeros in an image of this size.
    """
    model = tiny_models.tiny_model(
        (16, 16, 1),
        background=background,
        compositing="alpha",
        pixels="gaussian",
        sigma=0.1,
        max_objects=20,
    )
    variables = tiny_models.random_variables(model, scale=0.3)
    images = tiny_models.grey_images(model, 3)
    model = tiny_models.counting_some(model, variables, 255 * images, share=0.97)
    scene = lavae_jax.infer(model, variables, images)
    found = lavae_jax.find_objects(model, variables, images)
    assert len({one.n for one in found}) > 1 and not scene.is_capped.any()
    assert [one.n for one in found] == scene.n.tolist()
    image = np.random.default_rng(1).uniform(size=(20, 23, 1)).astype(np.float32)
    large = model.clone(image_shape=image.shape)
    bound, sizes = large.bind(variables), np.array([image.shape[:2]])
    behind = jax.jit(
        lambda x: counting.backgrounds.of_large_images(
            bound.background_net, x, sizes, (16, 16)
        )
    )(np.pad(image, ((0, 44), (0, 41), (0, 0)), "edge")[None])[:, :20, :23]
    h_loc = bound.location_logits(image[None], behind=behind)
    threshold = float(np.quantile(h_loc[0, :12, :15], 0.9))
    is_peak = counting.counts.peaks(h_loc, 0) & (h_loc > threshold)
    model = model.clone(count_threshold=threshold)
    (found,) = lavae_jax.find_objects(model, variables, [image])
    expected = np.argwhere(is_peak[0, :12, :15])
    assert _sorted(found.yx[(found.yx < (12, 15)).all(axis=1)]) == _sorted(expected)
    assert 0 < len(expected) < found.n


def test_objects_that_the_border_cuts(released, made):
    """What a margin shows does not count, neither in evidence nor as a maximum.

    A scene is cut through an object, at its right border, in an image of the size
    64×43, which gets a margin. By NumPy and float64, the evidence is of its pixels.
    """
    model, variables = released
    box = made[0]["box"][: made[0]["n"]]
    left, right = box[0, 1], box[0, 3]
    image = made[0]["image"][:, : (left + right) // 2 + 2]
    (found,) = lavae_jax.find_objects(model, variables, [image])
    width = image.shape[1]
    cut = np.argmax(found.box[:, 3] == width)
    assert found.box[cut, 3] == width and found.box.max() <= 64
    side = model.sprite_size
    sprites, kl = _painted(model, variables, image, found)

    def log_px(slots):
        canvas = np.zeros((63 + side, width - 1 + side, 3))
        for slot in slots:
            row, column = found.yx[slot]
            canvas[row : row + side, column : column + side] += sprites[slot]
        canvas = canvas[side // 2 :, side // 2 :][:64, :width]
        return reference.log_likelihood(image > 0, canvas, model.epsilon).sum()

    everything = range(found.n)
    for slot in everything:
        gain = log_px(everything) - log_px([i for i in everything if i != slot])
        expected = gain - kl[slot] - np.log(64 * width)
        assert found.log_evidence[slot] == pytest.approx(expected, rel=1e-3, abs=0.5)


def _painted(model, variables, image, found):
    """Returns sprites and KL of objects of an image, which is padded with black."""
    padded = np.pad(image, ((0, 0), (0, 64 - image.shape[1]), (0, 0)))
    x = (padded > 0).astype(np.float32)[None]
    slots = model.max_objects - found.n
    site = np.pad(found.yx[:, 0] * 64 + found.yx[:, 1], (0, slots))[None]
    active = np.arange(model.max_objects)[None] < found.n

    def parameters(x):
        bound = model.bind(variables)
        locations = lavae_jax.types.hard_locations(site, active)
        q = bound.appearance(bound.appearance_features(x), locations)
        return bound.sprites(q.mu, active), q

    sprites, q = jax.jit(parameters)(x)
    return np.float64(sprites)[0], reference.gaussian_kl(*reference.float64(q))[0]


def test_sizes_are_few():
    """Sides are padded to 64, 96, 128 and so on, or the model's stays as it is."""
    shape = (35, 35, 3)
    sizes = {side: counting.padded_size((side, 10), shape)[0] for side in range(1, 400)}
    assert set(sizes.values()) == {64, 96, 128, 192, 256, 384, 512}
    assert all(side <= padded < 64 + side * 1.5 for side, padded in sizes.items())
    assert counting.padded_size((35, 35), shape) == (35, 35)
    assert counting.padded_size((70, 130), (100, 100, 1)) == (100, 192)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.full((70, 70, 3), 7)], r"images\[0\]: .*binary"),
        ([np.zeros((9, 9, 3)), np.zeros((7, 7, 1))], r"images\[1\] .*\[H, W, 3\]"),
        ([np.zeros((64, 64))], r"images\[0\] .*got \[64, 64\]"),
        ([np.zeros((0, 64, 3))], "at least one pixel"),
        (np.zeros((64, 64, 3)), r"a single one, \[64, 64, 3\]: pass \[image\]"),
        ("picture.png", r"images\[0\] .*got \[\]"),
    ],
)
def test_wrong_images_are_refused(released, images, message):
    """A message names the image, what was expected, and what was found."""
    with pytest.raises(ValueError, match=message):
        lavae_jax.find_objects(*released, images)


def test_baseline_finds_no_objects():
    """The baseline is refused by a message, as `infer` refuses it."""
    with pytest.raises(TypeError, match="a model with objects"):
        lavae_jax.find_objects(lavae_jax.BaselineVAE((64, 64, 1)), {}, [])


def test_images_of_any_kind_are_taken(released):
    """Lists, Pillow's images, other byte orders and generators count as arrays do."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[8:20, 10:24, 0] = 255
    kinds = [image, image.tolist(), Image.fromarray(image), image.astype(">i2")]
    kinds.append((image > 0).astype(np.longdouble))
    found = lavae_jax.find_objects(*released, (kind for kind in kinds))
    for one in found:
        np.testing.assert_array_equal(one.box, found[0].box)
        np.testing.assert_array_equal(one.log_evidence, found[0].log_evidence)
    assert found[0].n
