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
    cli,
    input_pipeline,
)
from experiments.ablations_results import Curve, Measured, Result
from experiments.configs import baseline_dsprites, dsprites
from lavae_jax.metrics import Estimate
from tests.commands import run_python

pytestmark = pytest.mark.standard_promotion

TINY = "experiments/configs/dsprites.py:tiny"
LAPTOP = "experiments/configs/dsprites.py:laptop"
NUM_STEPS = 4
NAMES = ("base", "epsilon-1e-3")


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
    """Two runs, and between them one of rates that no run survives."""
    plan = ablations.plan(tiny, TINY, NUM_STEPS, (*NAMES, "rate-8e-3"), workdir)
    (bad,) = (run for run in plan if run.setting.name == "rate-8e-3")
    config = copy.deepcopy(bad.config)
    config.optimizer.learning_rate = 1e30
    good = [run for run in plan if run.setting.name in NAMES and not run.config.seed]
    return [good[0], bad._replace(config=config), good[1]]


@pytest.fixture(scope="module")
def made(runs, workdir):
    """What is written after all of them, and what each has left behind."""
    out = workdir / "out"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        ablations.ablate(runs, workdir, out, jax.devices()[:1])
    return out, [ablations_results.read(run.folder) for run in runs]


def test_runs_are_trained_and_measured(made, runs, tiny):
    """To their end, on the held-out scenes, with the figures of the library."""
    _, (result, _, _) = made
    assert (result.name, result.seed, result.diverged_at) == ("base", 0, None)
    assert result.command == runs[0].command
    measured, held_out = result.measured, input_pipeline.load_data(tiny).held_out
    assert measured.num_images == len(held_out.n) == tiny.num_eval_images
    counts = [np.count_nonzero(held_out.n == n) for n in range(held_out.n.max() + 1)]
    sums = measured.confusion.sum(axis=1)
    np.testing.assert_array_equal(sums[: len(counts)], counts)
    # The loop and the measurement count alike.
    assert result.curve.held_out_steps[-1] == NUM_STEPS
    assert measured.count_accuracy == pytest.approx(result.curve.count_accuracy[-1])
    assert result.curve.steps == (2, 3, 4)
    # Draws of another key give the same mean up to their noise; a bound is a bound.
    model, variables = lavae_jax.load(runs[0].folder)
    log_w = lavae_jax.log_weights(
        model, variables, held_out.images, jax.random.key(7), 20
    )
    assert measured.negative_elbo.mean == pytest.approx(-log_w.mean(), rel=0.02)
    assert measured.negative_log_p.mean <= measured.negative_elbo.mean


def test_a_run_that_diverges_is_a_result(made, runs):
    """The list goes on after it, and it is not measured."""
    _, (_, diverged, after) = made
    assert diverged.diverged_at in range(2, NUM_STEPS + 1)
    assert diverged.measured is None
    assert after.measured is not None and after.curve.steps == (2, 3, 4)
    assert not (runs[1].folder / "checkpoints" / str(NUM_STEPS)).exists()


def test_what_is_written(made, runs):
    """A document, figures, and all results as JSON, of what the runs have left."""
    out, results = made
    content = json.loads((out / "results" / "ablations.json").read_text())
    kept = [json.loads((run.folder / "ablation.json").read_text()) for run in runs]
    by_name = {run["name"]: run for run in kept}
    assert {run["name"]: run for run in content["runs"]} == by_name
    text = (out / "ABLATIONS.md").read_text()
    for name in ("epsilon", "optimiser"):
        picture = f"results/ablations_dsprites-tiny-4_{name}.png"
        assert f"]({picture})" in text
        with Image.open(out / picture) as image:
            image.load()
    assert f"0: diverged at step {results[1].diverged_at}" in text
    assert "**It diverged.**" in text
    for result in results:
        assert result.command in text
    assert "data_dir" not in text and "Not run: `unrefined`" in text


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
    with (plan[0].folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ablations.ablate(plan, tmp_path, tmp_path / "out", jax.devices()[:1])
    assert "another process is at it: skipped" in capsys.readouterr().out
    assert [path.name for path in plan[0].folder.iterdir()] == [".lock"]


def test_folders_of_other_runs_are_refused(made, tiny, workdir):
    """Before anything is trained: the message says what differs."""
    config = copy.deepcopy(tiny)
    config.batch_size = 4
    with pytest.raises(cli.UserError, match=r"base-seed0 holds .*\n  batch_size: 8"):
        ablations.plan(config, TINY, NUM_STEPS, (), workdir)


@pytest.mark.parametrize(
    ("get_config", "arguments", "message"),
    [
        (dsprites.get_config, dict(only=["base", "bias"]), "no setting bias. There"),
        (dsprites.get_config, dict(num_steps=400), "above warmup.proposal_steps = 400"),
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
