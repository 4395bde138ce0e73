"""Images of one's own as training data: read, told apart, and a config that fits."""

import itertools

import numpy as np
import pytest

from datasets import scenes
from datasets.multi_dsprites import multi_dsprites_dataset_builder as dsprites_builder
from experiments.configs import base, baseline_custom, custom, dsprites
from experiments.own import data as own_data
from experiments.own import images as own_images
from experiments.run import build, input_pipeline
from tests.own_scenes import save_pngs, squares

GREY, COLOUR = (48, 80, 1), (32, 32, 3)


def _config(path, variant="tiny", **data):
    config = custom.get_config(variant)
    config.data.update(path=str(path), **data)
    return config


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Makes 40 colour scenes of 32×32 with their counts."""
    images, n = squares(40, COLOUR)
    path = tmp_path_factory.mktemp("archive") / "own.npz"
    np.savez(path, images=images, n=n)
    return path


@pytest.mark.parametrize("shape", [GREY, COLOUR, (9, 11, 3)])
def test_a_bit_per_value_loses_nothing(tmp_path, shape):
    """Images come out as they went in, one by one and in parts, also from PNG files."""
    images = np.random.default_rng(0).integers(0, 2, (6, *shape), np.uint8) * 255
    save_pngs(tmp_path / "folder", images)
    packed = own_data.read(_config(tmp_path / "folder")).images
    assert packed.bits.nbytes == 6 * -(-np.prod(shape) // 8)
    assert (len(packed), packed.image_shape) == (6, shape)
    np.testing.assert_array_equal(np.stack(list(packed)), images)
    np.testing.assert_array_equal(packed[-2], images[-2])
    np.testing.assert_array_equal(np.stack(list(packed[2:5])), images[2:5])
    assert packed[0].dtype == np.uint8


def test_the_fingerprint_is_that_of_the_images(tmp_path):
    """The fingerprint changes with pixels, order and number, not with the storage."""
    images, _ = squares(12, GREY)
    np.savez(tmp_path / "one.npz", images[..., 0] > 0)
    np.save(tmp_path / "two.npy", images)
    paths = [tmp_path / "one.npz", tmp_path / "two.npy"]
    paths.append(save_pngs(tmp_path / "three", images))
    same = {own_data.read(_config(path)).images.fingerprint for path in paths}
    assert len(same) == 1
    pixel = images.copy()
    pixel[5, 20, 30] ^= 255
    for index, other in enumerate((pixel, images[::-1], images[:-1])):
        np.savez(tmp_path / f"{index}.npz", other)
        same.add(own_data.read(_config(tmp_path / f"{index}.npz")).images.fingerprint)
    assert len(same) == 4


def test_grey_levels_are_binarised_where_asked(tmp_path):
    """A value is lit from the threshold on, in files and arrays, and for `evaluate`."""
    levels = np.random.default_rng(0).integers(0, 256, (5, *COLOUR), np.uint8)
    levels[0, 0, 0] = (99, 100, 255)
    np.savez(tmp_path / "own.npz", levels)
    for path in (tmp_path / "own.npz", save_pngs(tmp_path / "folder", levels)):
        own = own_data.read(_config(path, threshold=100))
        np.testing.assert_array_equal(np.stack(list(own.images)) > 0, levels >= 100)
        seen = own_images.load_images(path, COLOUR, threshold=100)
        np.testing.assert_array_equal(seen, np.stack(list(own.images)))


def test_the_first_file_or_the_config_gives_the_shape(tmp_path):
    """Images are grey or colour as the first is stored, or as the config says."""
    white = np.repeat(squares(3, GREY)[0], 3, axis=-1)
    folder = save_pngs(tmp_path / "folder", white)
    config = _config(folder)
    assert own_data.read(config).images.image_shape == (48, 80, 3)
    config.model.image_shape = GREY
    assert own_data.read(config).images.image_shape == GREY


def test_counts_come_with_an_archive(archive, tmp_path):
    """Counts are read in order and cut like the images; a folder has none."""
    images, n = squares(40, COLOUR)
    config = _config(archive, num_valid=7)
    own = own_data.read(config)
    parts = own_data.parts(config, own)
    np.testing.assert_array_equal(parts["train"].n, n[:33])
    np.testing.assert_array_equal(parts["held_out"].n, n[33:])
    np.testing.assert_array_equal(np.stack(list(parts["held_out"].images)), images[33:])
    np.savez(tmp_path / "bare.npz", images)
    assert own_data.read(_config(tmp_path / "bare.npz")).n is None


def _fitted(path, variant="tiny", **data):
    config = _config(path, variant, **data)
    return own_data.fit(config, own_data.read(config)).config


@pytest.fixture(scope="module")
def paper_scenes(tmp_path_factory):
    """Makes an archive of 300 scenes of multi-dSprites."""
    split = scenes.Split(num_examples=300, counts=(0, 1, 2, 3), stream=0)
    images = [dsprites_builder.scene(split, index)["image"] for index in range(300)]
    path = tmp_path_factory.mktemp("paper") / "own.npz"
    np.savez_compressed(path, images=images)
    return path


@pytest.mark.parametrize("variant", base.VARIANTS)
def test_the_papers_images_give_the_papers_config(paper_scenes, variant):
    """Scenes of multi-dSprites give the values of the multi-dSprites config."""
    ours, theirs = _fitted(paper_scenes, variant), dsprites.get_config(variant)
    assert ours.model.objects_per_image == pytest.approx(1.5, abs=0.2)
    ours.model.objects_per_image = theirs.model.objects_per_image
    assert ours.warmup.object_size == 19
    del ours.warmup["object_size"]
    for section in ("model", "optimizer", "warmup"):
        assert ours[section].to_dict() == theirs[section].to_dict()
    assert (ours.model.gamma, ours.model.count_threshold) == (4.0, 16.0)


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((96, 96, 1), 40, dict(sprite_size=43, glimpse_size=59, exclusion_radius=9)),
        ((48, 80, 1), 7, dict(sprite_size=9, glimpse_size=9, exclusion_radius=1)),
    ],
)
def test_other_sizes_give_other_lengths(tmp_path, shape, side, expected):
    """Sprite size and lengths follow the objects, γ the logarithm of the sites."""
    images, _ = squares(60, shape, side, most=2)
    np.savez(tmp_path / "own.npz", images)
    config = _config(tmp_path / "own.npz", "laptop")
    config.batch_size = 8
    config = own_data.fit(config, own_data.read(config)).config
    model = config.model
    assert {name: model[name] for name in expected} == expected
    assert config.warmup.object_size == expected["sprite_size"] - 2
    assert model.gamma == pytest.approx(4 * np.log(np.prod(shape)) / np.log(4096))
    assert model.count_threshold == 4 * model.gamma
    assert build.build(config).model.image_shape == shape


def test_what_the_user_sets_stays(archive):
    """A value that the user sets stays, and others follow from it."""
    config = _config(archive)
    config.model.update(sprite_size=21, gamma=2.0, exclusion_radius=0)
    config.warmup.bump_sigma_init = 2.5
    fitted = own_data.fit(config, own_data.read(config)).config
    model = fitted.model
    assert (model.sprite_size, model.gamma, model.exclusion_radius) == (21, 2.0, 0)
    assert (model.count_threshold, model.glimpse_size) == (8.0, 27)
    assert (fitted.warmup.object_size, fitted.warmup.bump_sigma_init) == (19, 2.5)
    assert config.model.count_threshold is None  # the caller's is as it was


@pytest.mark.parametrize(("num_images", "held_out"), [(40, 4), (9, 1), (60_000, 5_000)])
def test_a_tenth_is_held_out(num_images, held_out):
    """A tenth of the images is held out, at least one and at most 5,000."""
    bits = np.zeros((num_images, 8), np.uint8)
    bits[:, 3] = 24
    own = own_data.OwnImages(own_data.PackedImages(bits, (8, 8, 1)), None)
    fitted = own_data.fit(_config("anywhere"), own).config
    assert fitted.data.num_valid == held_out
    assert fitted.num_eval_images == min(held_out, 16)


def test_batches_are_those_of_any_data(archive):
    """Batches of own images are shuffled, whole, shared by processes and resumable."""
    config, data, _ = input_pipeline.prepare(_config(archive))
    images, n = squares(40, COLOUR)
    assert len(data.train) == 36
    np.testing.assert_array_equal(data.held_out.images, images[36:])
    np.testing.assert_array_equal(data.held_out.n, n[36:])

    def take(number, *process):
        iterator = input_pipeline.batches(data.train, 12, 5, *process)
        return np.concatenate(list(itertools.islice(iterator, number)))

    epoch = take(3)
    assert not np.array_equal(epoch, images[:36])
    order = np.lexsort(epoch.reshape(36, -1).T)
    expected = images[:36][np.lexsort(images[:36].reshape(36, -1).T)]
    np.testing.assert_array_equal(epoch[order], expected)
    first, second = (take(1, index, 2) for index in range(2))
    np.testing.assert_array_equal(np.concatenate([first, second]), epoch[:12])
    # The config that has been fitted opens the same data.
    again = input_pipeline.load_data(config)
    np.testing.assert_array_equal(np.stack(list(again.train)), images[:36])


def test_other_images_under_the_same_path_are_noticed(archive, tmp_path):
    """A run's config accepts its own images only, wherever they lie."""
    images, _ = squares(40, COLOUR)
    config = _fitted(archive)
    np.savez(tmp_path / "moved.npz", images)
    config.data.path = str(tmp_path / "moved.npz")
    assert len(own_data.read(config).images) == 40
    np.savez(tmp_path / "moved.npz", images[::-1])
    with pytest.raises(ValueError, match=r"no longer holds the images .* put those"):
        own_data.read(config)


def test_the_baseline_takes_them_too(archive, tmp_path):
    """The baseline takes images of whole cells; others are refused with what to do."""
    config = baseline_custom.get_config("tiny")
    config.data.path = str(archive)
    fitted = own_data.fit(config, own_data.read(config)).config
    assert build.build(fitted).model.image_shape == COLOUR
    np.savez(tmp_path / "own.npz", squares(40, (36, 32, 1))[0])
    config.data.path = str(tmp_path / "own.npz")
    fitted = own_data.fit(config, own_data.read(config)).config
    with pytest.raises(ValueError, match=r"multiples of 8: .*36.*Crop or pad them"):
        build.build(fitted)


def test_a_size_that_the_stem_does_not_divide(tmp_path):
    """A size that the stem does not divide is refused with what to do."""
    np.savez(tmp_path / "own.npz", squares(40, (33, 41, 1))[0])
    fitted = _fitted(tmp_path / "own.npz")
    with pytest.raises(ValueError, match=r"got 2 for \(33, 41, 1\). Lower it, or crop"):
        build.build(fitted)
    fitted.model.stem_stride = 1
    assert build.build(fitted).model.num_sites == 33 * 41


def test_an_open_config_builds_nothing():
    """A config with open values is refused, and the values are named."""
    with pytest.raises(ValueError, match=r"model.sprite_size.* found from the images"):
        build.build(custom.get_config("tiny"))
