"""What can't be used ends each command with a clear message, and nothing is lost.

`pytest tests/test_bad_input.py tests/test_bad_values.py -s` prints the table of what is
given and what is said.
"""

import gzip
import os
import pathlib
import re
import shutil

import pytest

from datasets.multi_mnist import digits
from experiments import cli, evaluate, train
from experiments.run import build
from experiments.run.workdir import lock
from tests import bad_images, tiny_models, tiny_runs
from tests.commands import ROOT, refused, run_here

CONFIGS = "experiments/configs"
CONFIG = f"{CONFIGS}/dsprites.py:tiny"
MEMORY = pathlib.Path("/proc/self/mem")


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    """Commands are run from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """The workdir of a run of the tiny config, for tests to copy."""
    config = cli.load_config(str(ROOT / CONFIG))
    config.data.data_dir = data_dir
    workdir = tmp_path_factory.mktemp("trained") / "run"
    variables = tiny_models.random_variables(build.build_model(config))
    tiny_runs.save_run(workdir, config, {1: variables, 2: variables})
    return workdir


@pytest.mark.parametrize("given", bad_images.IMAGES)
def test_images_of_ones_own(trained, tmp_path, monkeypatch, given):
    """`experiments.evaluate --images`; nothing is run that a file brings along."""
    name, content, message = bad_images.IMAGES[given]
    workdir = shutil.copytree(trained, tmp_path / "run")
    (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    said = refused(
        f"--images: {given}",
        tmp_path,
        evaluate,
        f"--workdir={workdir}",
        f"--images={name}",
    )
    assert message in said
    assert not (tmp_path / "loaded").exists()


@pytest.mark.skipif(not MEMORY.exists(), reason="needs Linux's files of processes")
def test_images_that_the_system_does_not_read(trained, tmp_path):
    """The start of a process's memory is a file that no one can read."""
    (tmp_path / "own.npy").symlink_to(MEMORY)
    said = refused(
        "--images: a file that can't be read",
        tmp_path,
        evaluate,
        f"--workdir={trained}",
        f"--images={tmp_path}/own.npy",
    )
    assert "own.npy cannot be read ([Errno 5] Input/output error)" in said


@pytest.mark.parametrize(
    "given",
    [
        *("grey pixels", "NaN", "no images", "words", "a grey picture"),
        *("a truncated array", "a truncated archive", "a truncated picture"),
        *("an empty archive", "a pickle in an archive", "a terabyte by its header"),
    ],
)
def test_images_to_train_on(tmp_path, monkeypatch, given):
    """`experiments.train` with a config of own images, before there is a workdir."""
    name, content, message = bad_images.IMAGES[given]
    (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    said = refused(
        f"--config.data.path: {given}",
        tmp_path,
        train,
        f"--config={ROOT}/{CONFIGS}/custom.py:tiny",
        f"--config.data.path={name}",
        "--workdir=run",
        "--nodistributed",
    )
    assert message in said
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images=nowhere.npz"], "nowhere.npz does not exist: pass a file or folder"),
        (["--images={empty}"], "holds no .png file: pass a folder of images"),
        (["--splits=valid"], "Unknown split 'valid'"),
        (["--num_images=0"], "num_images must be at least 1: got 0."),
        (["--num_samples=-1"], "num_samples must be at least 1: got -1."),
        (["--num_images=many"], "flag --num_images=many: "),
        (["--images=own.npz", "--splits=test"], "exclude each other"),
        (["--workdir={empty}"], "is not the workdir of a run: it has no config.json"),
        (["--workdir={damaged}"], "has no checkpoint that is whole, and of its config"),
        (
            ["--data_dir={data}", "--splits=test", "--out={empty}"],
            "is missing or damaged: ",
        ),
        (
            ["--out={data}/file"],
            "/file can't be written to: [Errno 20] Not a directory",
        ),
        (["--out=/proc"], "/proc can't be written to: [Errno"),
    ],
)
@pytest.mark.standard_promotion
def test_evaluations(trained, tmp_path, data_dir, arguments, message):
    """`experiments.evaluate` with other wrong arguments, or a wrong workdir."""
    folders = {name: tmp_path / name for name in ("empty", "damaged", "data")}
    folders["empty"].mkdir()
    _truncate_split("test", shutil.copytree(data_dir, folders["data"]))
    (folders["data"] / "file").touch()
    shutil.copytree(trained, folders["damaged"])
    for path in (folders["damaged"] / "checkpoints").rglob("_METADATA"):
        path.write_text("{}")
    filled_in = [argument.format(**folders) for argument in arguments]
    workdir = f"--workdir={trained}"
    said = refused(" ".join(arguments), tmp_path, evaluate, workdir, *filled_in)
    assert message in said


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (f"{CONFIGS}/dsprites.py:huge", "there is no variant 'huge' of this config"),
        (f"{CONFIGS}/base.py", "defines no function get_config"),
        (f"{CONFIGS}/sprites.py", "there is no file experiments/configs/sprites.py"),
        ("", "there is no file"),
    ],
)
def test_configs(tmp_path, config, message):
    """A file or variant that is not there."""
    flag = f"--config={config}"
    assert message in refused(flag, tmp_path, train, flag)


def _truncate_split(split, data):
    (path,) = data.rglob(f"*-{split}.array_record*")
    os.truncate(path, path.stat().st_size // 2)


def _truncated_train_split(folder, data_dir):
    _truncate_split("train", shutil.copytree(data_dir, folder / "data"))


def _no_data_set(folder, data_dir):
    (folder / "data" / "multi_dsprites" / "tiny" / "1.0.0").mkdir(parents=True)


def _file_for_data(folder, data_dir):
    (folder / "data").touch()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            _truncated_train_split,
            "is missing or damaged: .* Delete this folder, and it",
        ),
        (_no_data_set, "is not a complete data set. Delete it, and it is generated"),
        (_file_for_data, "File exists|Not a directory"),
    ],
)
def test_damaged_data_sets(tmp_path, data_dir, damage, message):
    """They are neither used nor deleted."""
    damage(tmp_path, data_dir)
    status, said = run_here(
        train,
        f"--config={CONFIG}",
        f"--config.data.data_dir={tmp_path}/data",
        f"--workdir={tmp_path}/run",
        "--nodistributed",
    )
    print(f"\ndata: {damage.__name__[1:]}\n  {said.strip()}")
    assert status == 1 and said.startswith("error: ")
    assert re.search(message, said)
    assert (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "train-images-idx3-ubyte.gz .* not found in manual_dir"),
        (gzip.compress(bytes(99))[:-9], "is not a complete gzip file"),
        (gzip.compress(bytes(99)), "is not MNIST's .*: the SHA-256 of its unpacked"),
    ],
    ids=["missing", "truncated", "other ones"],
)
def test_files_of_mnist(tmp_path, content, message):
    """Missing, truncated or other ones in the folder they are to be in."""
    if content is not None:
        for file in (digits.IMAGES, digits.LABELS):
            (tmp_path / file.name).write_bytes(content)
    status, said = run_here(
        train,
        f"--config={CONFIGS}/mnist_1k.py:tiny",
        f"--config.data.data_dir={tmp_path}/data",
        f"--config.data.manual_dir={tmp_path}",
        f"--workdir={tmp_path}/run",
        "--nodistributed",
    )
    print(f"\nMNIST: {message}\n  {said.strip()}")
    assert status == 1 and said.startswith("error: ")
    assert re.search(message, said)
    assert not list(tmp_path.rglob("*.array_record*"))


def _file_for_checkpoints(run):
    run.mkdir()
    (run / "checkpoints").touch()


def _link_below_a_file(run):
    run.symlink_to(ROOT / "setup.cfg" / "run")


@pytest.mark.skipif(not MEMORY.exists(), reason="needs Linux's files of processes")
def test_a_workdir_that_cannot_be_written_to(tmp_path, data_dir):
    """Not even root may add a file to the folder of a process."""
    (tmp_path / "run").symlink_to(MEMORY.parent)
    said = refused(
        "--workdir: without the right to write",
        tmp_path,
        train,
        f"--config={CONFIG}",
        f"--config.data.data_dir={data_dir}",
        f"--workdir={tmp_path}/run",
        "--nodistributed",
    )
    assert said.startswith(f"the --workdir {tmp_path}/run can't be written to: [Errno")


def test_workdirs(trained, tmp_path, data_dir):
    """One that can't be a folder, of another run, or in use."""
    flags = (
        f"--config={CONFIG}",
        f"--config.data.data_dir={data_dir}",
        "--config.seed=1",
        "--nodistributed",
    )
    for number, (given, make, message) in enumerate(
        [
            ("a file", lambda run: run.touch(), "File exists|Not a directory"),
            (
                "below a file",
                _link_below_a_file,
                r"can't be written to: \[Errno \d+\] ",
            ),
            ("a file in it", _file_for_checkpoints, "File exists|Not a directory"),
            (
                "another run's",
                lambda run: shutil.copytree(trained, run),
                r"another config:\n  seed: 0 there, 1 here\nGive this run another",
            ),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / "run")
        workdir = f"--workdir={folder}/run"
        said = refused(f"--workdir: {given}", folder, train, *flags, workdir)
        assert re.search(message, said)
    workdir = tmp_path / "used"
    with lock(workdir):
        said = refused(
            "--workdir: in use", workdir, train, *flags, f"--workdir={workdir}"
        )
    assert "is in use by another run, process" in said
