"""`experiments.count` writes tables and pictures of what a model finds."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from datasets import load, scenes
from experiments import count, files
from experiments.own import comparison, overlays
from experiments.own import images as own_images
from lavae_jax import pretrained
from tests.commands import ROOT, run_here

# distrax mixes dtypes.
pytestmark = pytest.mark.standard_promotion


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    """Makes a folder of scenes with 3, 0 and 7 objects, one of them larger."""
    folder = tmp_path_factory.mktemp("images")
    make = load.scene_maker("multi_dsprites")
    for n in (3, 0, 7):
        image = make(scenes.extra_split(n, seed=5), 0)["image"]
        image = np.pad(image, ((0, 30), (0, 50), (0, 0))) if n == 3 else image
        Image.fromarray(image).save(folder / f"{n}.png")
    (folder / "readme.txt").write_text("three pictures")
    return folder


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_and_overlays(folder, tmp_path, capsys):
    """Each image has a row, each object one in its box, and boxes are drawn."""
    arguments = (f"--images={folder}", "--model=multi_dsprites", f"--out={tmp_path}")
    assert run_here(count, *arguments, "--overlays=2")[0] == 0
    out = capsys.readouterr().out
    assert "1 .txt files are left out" in out and "10 objects in 3 images" in out
    counts = _rows(tmp_path / "counts.csv")
    assert {row["file"]: int(row["n"]) for row in counts} == {
        "0.png": 0, "3.png": 3, "7.png": 7,
    }  # fmt: skip
    objects = _rows(tmp_path / "objects.csv")
    assert [row["file"] for row in objects] == ["3.png"] * 3 + ["7.png"] * 7
    for row in objects:
        assert row["file"] == f"{row['n']}.png"
        top, left, bottom, right = (int(row[name]) for name in count._BOX_FIELDS)
        assert top < bottom and left < right
        assert float(row["row"]) == (top + bottom - 1) / 2
        assert float(row["column"]) == (left + right - 1) / 2
        assert float(row["log_evidence"]) > 0
    drawn = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert drawn == ["0.png.png", "3.png.png"]
    evidence = sorted(float(row["log_evidence"]) for row in objects)
    least = f"--least_evidence={(evidence[1] + evidence[2]) / 2}"
    assert run_here(count, *arguments, least)[0] == 0
    left = _rows(tmp_path / "objects.csv")
    assert sorted(float(row["log_evidence"]) for row in left) == evidence[2:]
    assert "8 objects in 3 images" in capsys.readouterr().out
    with Image.open(tmp_path / "overlays" / "3.png.png") as picture:
        assert (np.asarray(picture) == (255, 128, 0)).all(axis=-1).any()


def test_comparison_with_the_truth(tmp_path, capsys):
    """Counts are compared, in images and squares, and so are pixels with the masks."""
    make = load.scene_maker("multi_dsprites")
    made = [make(scenes.extra_split(n, seed=5), 0) for n in (3, 0)]
    masks = np.stack([scene["segmentation"] for scene in made]).astype(np.int32)
    # A fourth object that nobody can see is missed.
    masks[0, 0, 0] = 9
    images = np.stack([scene["image"] for scene in made])
    np.savez(tmp_path / "own.npz", images=images, masks=masks)
    arguments = (f"--images={tmp_path / 'own.npz'}", "--model=multi_dsprites")
    arguments += ("--labels", "--tile=40", f"--out={tmp_path}")
    assert run_here(count, *arguments)[0] == 0
    out = capsys.readouterr().out
    assert "Counts: 50.0% of 2 images right, off by 0.50 on average." in out
    assert (
        "Counts in squares of 40 pixels: 87.5% of 8 squares right, off by 0.12" in out
    )
    assert "75.0% of the 4 true ones, and 100.0% of the 3 that were found" in out
    with Image.open(tmp_path / "labels" / "own.npz[0].png") as picture:
        labels = np.asarray(picture)
    assert labels.max() == 3 and np.mean((labels > 0) == (masks[0] > 0)) > 0.99
    objects = _rows(tmp_path / "objects.csv")
    for index, row in enumerate(objects):
        assert (
            labels[round(float(row["row"])), round(float(row["column"]))] == index + 1
        )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"n": np.array([3])}, "--tile compares"),
        ({"positions": np.array([[[3.0, 70.0]]])}, "inside images"),
        ({"positions": np.array([[[3.0, np.inf]]])}, "inside images"),
    ],
)
def test_what_can_not_be_compared(tmp_path, extra, message):
    """Squares without places, and places outside the image, are refused first."""
    np.savez(tmp_path / "own.npz", images=np.zeros((1, 64, 64, 3)), **extra)
    arguments = (f"--images={tmp_path / 'own.npz'}", "--model=multi_dsprites")
    status, said = run_here(count, *arguments, "--tile=8", f"--out={tmp_path}")
    assert status == 1 and message in said and not (tmp_path / "counts.csv").exists()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_overlays_are_bright(share):
    """A dark image is brightened, small ones are enlarged, and boxes are orange."""
    image = np.zeros((64, 32, 1), np.uint8)
    image[: int(share * 64)] = 40
    image[60, 20] = 50
    picture = np.asarray(overlays.overlay(image, np.array([[10, 4, 20, 12]])))
    assert picture.shape == (512, 256, 3)
    assert picture[0, 0].tolist() == [255 * (share > 0)] * 3
    assert picture[8 * 60 + 4, 8 * 20 + 4].tolist() == [255] * 3
    assert picture[80, 32:95].tolist() == [[255, 128, 0]] * 63


def test_squares_are_counted():
    """An object counts in the square of its centre; the last squares may be smaller."""
    centres = [np.array([(0, 0), (9.9, 10), (24, 14)]), np.zeros((0, 2))]
    counts = comparison.per_tile(centres, (25, 15), 10)
    assert counts.shape == (2, 3, 2) and not counts[1].any()
    np.testing.assert_array_equal(counts[0], [[1, 1], [0, 0], [0, 1]])


def test_levels_of_other_number_types():
    """A model of 8-bit images of a named data set asks for the levels of others."""
    values = own_images.Values(levels=(0.0, 255.0), only_8_bit=True)
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(values.convert("a.png", image), image)
    with pytest.raises(ValueError, match="has --levels"):
        values.convert("a.tif", image.astype(np.uint16) * 100)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model=baseline_dsprites", "baseline"),
        ("--model=nowhere", "multi_dsprites"),
        ("--images=nowhere", "does not exist"),
        ("--out=gs://bucket/counts", "address"),
        ("--model=multi_mnist_1k", "3.png is in colour"),
        ("--threshold=nan", "at least 0: got nan"),
        ("--threshold=-3", "at least 0: got -3"),
        ("--threshold=inf", "at least 0: got inf"),
        ("--least_evidence=nan", "--least_evidence must be"),
        ("--model=multi_dsprites_coloured --threshold=1", "--threshold is not for"),
    ],
)
def test_what_can_not_be_counted(folder, tmp_path, argument, message):
    """The command says what is wrong before it writes a table."""
    status, said = run_here(
        count,
        f"--images={folder}",
        "--model=multi_dsprites",
        f"--out={tmp_path}",
        *argument.split(),
    )
    assert status == 1 and message in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_second_count_does_not_mix_with_the_first(folder, tmp_path):
    """Earlier overlays are moved, and a released model's folder names the model."""
    arguments = (f"--images={folder}", f"--out={tmp_path}", "--overlays=1")
    assert run_here(count, *arguments, "--model=multi_dsprites")[0] == 0
    path = pretrained.FOLDER / "multi_dsprites"
    (folder / "0.png").rename(folder / "00.png")
    assert run_here(count, *arguments, f"--model={path}")[0] == 0
    (folder / "00.png").rename(folder / "0.png")
    shown = [path.name for path in (tmp_path / "overlays").iterdir()]
    moved = [path.name for path in (tmp_path / "earlier" / "overlays-0").iterdir()]
    assert shown == ["00.png.png"] and moved == ["0.png.png"]
    assert not list(tmp_path.glob("*unfinished*"))


def test_unfinished_tables_say_so(tmp_path):
    """Until its end, a table has another name, and an error leaves the old one."""
    path = tmp_path / "counts.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.finished_at_the_end(path) as file:
        file.write("\udcff.png")  # the name of a file that is not UTF-8
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert (tmp_path / "counts.unfinished.csv").read_bytes() == b"\xff.png"
    with files.finished_at_the_end(path) as file:
        file.write("new")
    assert path.read_text() == "new"


def test_names_too_long_for_a_picture(tmp_path):
    """A name that leaves no room for .png is refused before anything is counted."""
    with pytest.raises(ValueError, match="too long for a file of overlays"):
        overlays.prepare_folders(tmp_path, ["a.png", "x" * 252], 2, False)
    overlays.prepare_folders(tmp_path, ["a.png", "x" * 252], 1, False)
    assert (tmp_path / "overlays").is_dir() and not (tmp_path / "labels").exists()


@pytest.mark.parametrize("pixels", [0, 255])
def test_images_without_contrast_are_reported(tmp_path, pixels):
    """Images that are all black, or white, can't be counted, and a warning says so."""
    np.save(tmp_path / "own.npy", np.full((2, 64, 64, 3), pixels, np.uint8))
    arguments = (f"--images={tmp_path / 'own.npy'}", f"--out={tmp_path}")
    status, said = run_here(count, *arguments, "--model=multi_dsprites")
    assert status == 0 and "of all pixels are lit" in said


def test_a_console_without_unicode(tmp_path):
    """A console that is not UTF-8 shows other characters, and the command ends well."""
    path = tmp_path / "größe.png"
    Image.new("RGB", (64, 64)).save(path)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.evaluate", "--weights=multi_dsprites",
         f"--images={tmp_path}", "--num_samples=1", f"--out={tmp_path}/out"],
        cwd=ROOT,
        env={"PATH": "", "PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"log p(x)" in done.stdout
