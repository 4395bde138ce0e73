"""Runs of ablations: how they are made, and the document they give."""

import copy
import fcntl
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

import lavae_jax
from experiments import (
    ablations,
    ablations_document,
    ablations_results,
    build,
    cli,
    input_pipeline,
)
from experiments.ablations_results import Curve, Measured, Result
from experiments.configs import baseline_dsprites, dsprites
from lavae_jax.metrics import Estimate
from tests import tiny_models, tiny_runs
from tests.commands import run_python

pytestmark = pytest.mark.standard_promotion

TINY = "experiments/configs/dsprites.py:tiny"
LAPTOP = "experiments/configs/dsprites.py:laptop"
NUM_STEPS = 4


@pytest.fixture(scope="module")
def tiny(data_dir):
    """A step of the warm-up, then steps like those of the rest of a run."""
    config = dsprites.get_config("tiny")
    config.data.data_dir = data_dir
    config.warmup.update(auxiliary_steps=1, lead_steps=1, proposal_steps=1)
    config.warmup.update(settle_steps=1, location_every=1, appearance_updates=1)
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The folder of all runs."""
    return tmp_path_factory.mktemp("ablations")


@pytest.fixture(scope="module")
def runs(tiny, workdir):
    """A run whose auxiliary VAE survives no step, and another after it."""
    names = ("auxiliary-rate-4e-3", "epsilon-1e-3")
    bad, good = ablations.plan(tiny, TINY, NUM_STEPS, names, workdir)
    config = copy.deepcopy(bad.config)
    config.optimizer.update(auxiliary_learning_rate=1e30, decay="constant")
    config.warmup.update(auxiliary_steps=3, lead_steps=3, proposal_steps=3)
    config.update(eval_every=NUM_STEPS, checkpoint_every=NUM_STEPS)
    return [bad._replace(config=config), good]


@pytest.fixture(scope="module")
def made(runs, workdir):
    """What is written after both of them, and what each has left behind."""
    out = workdir / "out"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        ablations.ablate(runs, workdir, out, jax.devices()[:1])
    return out, [ablations_results.read(run.folder) for run in runs]


def test_runs_are_trained_and_measured(made, runs, tiny):
    """To their end; what the loop and the measurement count is the same."""
    _, (_, result) = made
    assert (result.name, result.seed, result.diverged_at) == ("epsilon-1e-3", 0, None)
    assert result.command == runs[1].command
    assert result.changes == {"model.epsilon_init": 1e-3}
    assert result.curve.steps == (2, 3, 4)
    assert result.curve.held_out_steps == (1, 2, 3, 4)
    assert result.measured.num_images == tiny.num_eval_images
    assert result.measured.count_accuracy == pytest.approx(
        result.curve.count_accuracy[-1]
    )


def test_what_is_measured(tiny, tmp_path):
    """Counts, the ELBO and a tighter bound, of a model that sees all kinds of scenes.

    Draws of another key have the same mean, up to their noise.
    """
    variables = tiny_models.random_variables(build.build_model(tiny), seed=2, scale=0.1)
    tiny_runs.save_run(tmp_path, tiny, {tiny.num_steps: variables})
    measured = ablations_results.measure_run(tiny, tmp_path)
    model, variables = lavae_jax.load(tmp_path)
    held_out = input_pipeline.load_data(tiny).held_out
    n = np.asarray(lavae_jax.infer(model, variables, held_out.images).n)
    assert len(np.unique(n)) > 2
    assert measured.count_accuracy == np.mean(n == held_out.n)
    for true, inferred in zip(held_out.n, n, strict=True):
        measured.confusion[true, inferred] -= 1
    assert not measured.confusion.any()
    log_w = lavae_jax.log_weights(
        model, variables, held_out.images, jax.random.key(7), 20
    )
    elbos = np.asarray(log_w).mean(axis=0)
    error = np.asarray(log_w).std(axis=0) / np.sqrt(20)
    noise = np.sqrt((error**2).sum()) / len(elbos)
    assert abs(measured.negative_elbo.mean + elbos.mean()) < 5 * np.sqrt(2) * noise
    assert measured.negative_log_p.mean < measured.negative_elbo.mean - noise


def test_a_run_that_diverges_is_a_result(made, runs):
    """It says where, is not measured, and the list goes on after it."""
    _, (diverged, after) = made
    assert diverged.diverged_at in (2, 3)
    assert diverged.measured is None and after.measured is not None
    assert list((runs[0].folder / "checkpoints").iterdir()) == []


def test_what_is_written(made, runs):
    """A document, figures, and all results as JSON, of what the runs have left."""
    out, results = made
    content = json.loads((out / "results" / "ablations.json").read_text())
    kept = [json.loads((run.folder / "ablation.json").read_text()) for run in runs]
    assert content == {"runs": kept}
    text = (out / "ABLATIONS.md").read_text()
    for name in ("epsilon", "optimiser"):
        picture = f"results/ablations_dsprites-tiny-4_{name}.png"
        assert f"]({picture})" in text
        with Image.open(out / picture) as image:
            image.load()
    assert f"0: diverged at step {results[0].diverged_at}" in text
    assert "**It diverged.**" in text
    for result in results:
        assert result.command in text
    assert "data_dir" not in text and "Not run: `base`, `unrefined`" in text


def test_the_command_repeats_nothing(made, runs, tiny, workdir):
    """The same list again: all has been made, and the document stays as it is."""
    out, _ = made
    before = {path: path.read_bytes() for path in sorted(out.rglob("*.[mj]*"))}
    logs = [(run.folder / "metrics.jsonl").stat().st_mtime_ns for run in runs]
    done = run_python(
        *("-m", "experiments.ablations", f"--config={TINY}"),
        f"--num_steps={NUM_STEPS}",
        "--only=epsilon-1e-3",
        f"--workdir={workdir}",
        f"--out={out}",
        f"--config.data.data_dir={tiny.data.data_dir}",
        *(f"--config.warmup.{name}=1" for name in ("auxiliary_steps", "lead_steps")),
        *(f"--config.warmup.{x}=1" for x in ("proposal_steps", "settle_steps")),
        *(f"--config.warmup.{x}=1" for x in ("location_every", "appearance_updates")),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "run 1 of 1: " in done.stdout and "  has been made" in done.stdout
    assert len(before) == 2
    assert before == {path: path.read_bytes() for path in before}
    assert logs == [(run.folder / "metrics.jsonl").stat().st_mtime_ns for run in runs]


def test_a_run_of_another_process_is_skipped(tiny, tmp_path, capsys):
    """What holds the lock of a folder has it alone."""
    plan = ablations.plan(tiny, TINY, NUM_STEPS, ("adamax",), tmp_path)
    plan[0].folder.mkdir(parents=True)
    with (plan[0].folder / ".ablations.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ablations.ablate(plan, tmp_path, tmp_path / "out", jax.devices()[:1])
    assert "another process is at it: skipped" in capsys.readouterr().out
    assert [path.name for path in plan[0].folder.iterdir()] == [".ablations.lock"]
    assert not (tmp_path / "out").exists()


def test_folders_of_other_runs_are_refused(made, tiny, workdir):
    """Before anything is trained: the message says what differs."""
    config = copy.deepcopy(tiny)
    config.batch_size = 4
    with pytest.raises(
        cli.UserError, match=r"epsilon-1e-3-seed0 holds .*\n  batch_size: 8"
    ):
        ablations.plan(config, TINY, NUM_STEPS, ("epsilon-1e-3",), workdir)


@pytest.mark.parametrize(
    ("get_config", "arguments", "message"),
    [
        (dsprites.get_config, dict(only=["base", "bias"]), "no setting bias. There"),
        (dsprites.get_config, dict(num_steps=400), "warmup.proposal_steps = 1600, "),
        (baseline_dsprites.get_config, {}, "the baseline has no such settings"),
    ],
)
def test_impossible_lists_are_refused(get_config, arguments, message):
    """One message that says what is possible."""
    with pytest.raises(cli.UserError, match=re.escape(message)):
        ablations.plan(get_config("laptop"), LAPTOP, **arguments)


def _result(name, seed, nats, share, diverged_at=None):
    """A run of eight scenes, whose bound is `nats` and that counts `share` right."""
    right, wrong = round(4 * share), 4 - round(4 * share)
    measured = Measured(
        num_images=8,
        num_samples=20,
        count_accuracy=share,
        confusion=np.array([[right, wrong, 0], [0, 0, 0], [0, wrong, right]]),
        negative_elbo=Estimate(nats + 7, 1.0, 8),
        negative_log_p=Estimate(nats, 1.0, 8),
        effective_samples=3.0,
    )
    return Result(
        study="x-100",
        config="x.py",
        num_steps=100,
        shared={"num_steps": 100},
        name=name,
        changes={} if name == "base" else {"model.width": 128},
        seed=seed,
        command=f"train {name} {seed}",
        parameters=1234,
        image_gflop=0.25,
        diverged_at=diverged_at,
        measured=None if diverged_at else measured,
        curve=Curve((50, 100), (-9.0, -5.0), (100,), (share,)),
    )


def test_the_document_compares_with_the_base(tmp_path):
    """Means over seeds, their deviation, and differences, as computed by hand."""
    results = [
        _result("width-128", 0, 53.0, 0.5),
        _result("base", 1, 44.0, 0.75),
        _result("base", 0, 40.0, 1.0),
        _result("width-512", 0, 0, 0, diverged_at=30),
        _result("kl-map", 0, 50.0, 0.5),
        _result("gone", 0, 50.0, 0.5),
    ]
    ablations_document.write(results, tmp_path)
    text = (tmp_path / "ABLATIONS.md").read_text()
    for line in (
        "| `base` |  | 0, 1 | 87.5% ± 17.7% | 87.5% ± 17.7% | 49.0 ± 2.8 | 42.0 ± 2.8"
        " | – | 1,234 | 0.250 |",
        "| `width-128` | `model.width=128` | 0 | 50.0% | 50.0% | 60.0 | 53.0 | +11.0"
        " | 1,234 | 0.250 |",
        "| `width-512` | `model.width=128` | 0: diverged at step 30 | – | – | – | – | –"
        " | 1,234 | 0.250 |",
        "do? **−log p(x) +11.0 nats, counts -37.5 points**, where the seeds of `base`"
        " deviate by 2.8 nats and 17.7 points.",
        "bring? **It diverged.**",
        "peaks? Its base, `unrefined`, has no figures to compare with.",
        "## `x.py`, 100 steps\n\n8 held-out scenes. All runs share"
        " `--config.num_steps=100`",
        "| counts, n = 2 |",
    ):
        assert line in text
    assert "gone" not in text
    names = [x["name"] for x in json.loads(_json(tmp_path).read_text())["runs"]]
    assert names == ["base", "base", "kl-map", "width-128", "width-512"]


def _json(folder):
    return folder / "results" / "ablations.json"


def test_results_of_other_versions_are_refused(tmp_path):
    """By name, with the way out."""
    (tmp_path / "ablation.json").write_text("{}")
    with pytest.raises(cli.UserError, match=r"ablation\.json is not a result of this"):
        ablations_results.read(tmp_path)
