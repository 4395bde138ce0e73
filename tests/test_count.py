"""`experiments.count` writes tables and pictures of what a model finds."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from datasets import load, scenes
from experiments import count
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
        assert int(row["top"]) <= int(row["row"]) < int(row["bottom"])
        assert int(row["left"]) <= int(row["column"]) < int(row["right"])
        assert float(row["log_evidence"]) > 0
    drawn = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert drawn == ["0.png.png", "3.png.png"]
    with Image.open(tmp_path / "overlays" / "3.png.png") as picture:
        assert (np.asarray(picture) == (255, 128, 0)).all(axis=-1).any()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model=baseline_dsprites", "baseline"),
        ("--model=nowhere", "multi_dsprites"),
        ("--images=nowhere", "does not exist"),
        ("--out=gs://bucket/counts", "address"),
        ("--model=multi_mnist_1k", "3.png is in colour"),
    ],
)
def test_what_can_not_be_counted(folder, tmp_path, argument, message):
    """The command says what is wrong before it writes a table."""
    status, said = run_here(
        count,
        f"--images={folder}",
        "--model=multi_dsprites",
        f"--out={tmp_path}",
        argument,
    )
    assert status == 1 and message in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


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
