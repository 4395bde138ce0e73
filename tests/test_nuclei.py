"""The image of nuclei is cut in half, and counted by scikit-image's means."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from experiments import nuclei
from experiments.own import pictures
from tests.commands import run_here


@pytest.fixture(scope="module", name="drawn")
def _drawn():
    """Draws discs of radius 6 to 9, some of which touch, with noise: [120, 96]."""
    rng = np.random.default_rng(0)
    image, labels = np.full((120, 96), 20.0), np.zeros((120, 96), np.uint16)
    rows, columns = np.mgrid[:120, :96]
    for index in range(30):
        row, column = divmod(index, 6)
        centre = 12 + 24 * row + rng.integers(-2, 3), 8 + 16 * column
        radius = rng.uniform(6, 9)
        inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
        inside &= labels == 0
        labels[inside], image[inside] = index + 1, rng.uniform(80, 200)
    noisy = ndimage.gaussian_filter(image, 0.7) + rng.normal(0, 4, image.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8), labels


def test_files_and_comparison(drawn, tmp_path, capsys):
    """The files hold halves at half the resolution; watersheds beat components."""
    for name, array in zip(("image", "masks"), drawn, strict=True):
        Image.fromarray(array).save(tmp_path / f"{name}.tif")
    arguments = [f"--{name}={tmp_path / name}.tif" for name in ("image", "masks")]
    assert run_here(nuclei, *arguments, f"--out={tmp_path}")[0] == 0
    image, labels = drawn
    paths = [tmp_path / f"{name}.npz" for name in ("train", "test")]
    train, test = map(pictures.read_arrays, paths)
    assert train["images"].shape == test["images"].shape == (1, 30, 48)
    mean = np.float64(image[60:62, :2]).mean()
    assert abs(test["images"][0, 0, 0] - mean) <= 0.5
    np.testing.assert_array_equal(test["masks"][0], labels[60::2, ::2])
    assert "masks" not in train
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("Best on the upper half")
    lines = [line for line in lines if "squares of 64 pixels" in line]
    shares = [float(line.split(": ")[1].partition("%")[0]) for line in lines]
    assert shares[1] > shares[0]


def test_watersheds_part_discs_that_touch(drawn):
    """Two discs that touch are one connected component, and two basins."""
    image = np.where(np.hypot(*(np.mgrid[:40, :60] - 20)) < 10, 200, 20)
    image = np.maximum(image, image[:, ::-1])[:, :60]
    assert nuclei.components(image).max() == 1
    assert nuclei.watersheds(image, "otsu", 1.0, 6).max() == 2


def test_images_that_do_not_fit(drawn, tmp_path):
    """An image and masks of different sizes are refused before anything is written."""
    image, labels = drawn
    Image.fromarray(image).save(tmp_path / "image.tif")
    Image.fromarray(labels[:, :50]).save(tmp_path / "masks.tif")
    arguments = [f"--{name}={tmp_path / name}.tif" for name in ("image", "masks")]
    status, said = run_here(nuclei, *arguments, f"--out={tmp_path / 'out'}")
    assert status == 1 and "same pixels" in said and not (tmp_path / "out").exists()
