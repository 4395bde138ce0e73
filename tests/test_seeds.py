"""Several seeds in one program: each is the run that it would be alone."""

import os
import re
import shutil
import signal

import jax
import numpy as np
import pytest

import lavae_jax
from experiments import build, cli, loop, run_config, seeds
from lavae_jax.training import guard
from tests import mean_images, scale_runs
from tests.commands import ROOT
from tests.scale_runs import column

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

LAVAE = "experiments/configs/dsprites.py:tiny"
BASELINE = "experiments/configs/baseline_dsprites.py:tiny"


def _config(data_dir):
    config = mean_images.six_steps(data_dir)
    config.update(num_seeds=2, eval_every=3)
    return config


@pytest.fixture
def config(data_dir):
    """Two seeds of the small model."""
    return _config(data_dir)


@pytest.fixture(scope="module")
def singles(tmp_path_factory, data_dir):
    """The folder of their single runs, with names as several seeds have."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in (3, 4):
        config = _config(data_dir)
        config.update(seed=seed, num_seeds=1)
        mean_images.run(config, folder / f"seed_{seed}")
    return folder


def _assert_same(workdir, other):
    """Everything that a run leaves, its state up to rounding."""
    for part in ("train", "held_out"):
        pairs = zip(
            mean_images.rows(workdir, part),
            mean_images.rows(other, part),
            strict=True,
        )
        for row, same in pairs:
            assert row == pytest.approx(same, rel=1e-3)  # sums of 150,000 squares
    mean_images.assert_close_end(workdir, other)
    assert run_config.read_config(workdir) == run_config.read_config(other)
    pictures = [{p.name for p in (d / "pictures").iterdir()} for d in (workdir, other)]
    assert pictures[0] >= pictures[1]


def test_two_seeds_are_their_single_runs(tmp_path):
    """LAVAE with batch statistics: two seeds on 4 devices, and each on one.

    After 20 steps parameters and batch statistics differ by a thousandth of what they
    have moved. Every seed has bitwise the images and random draws of its single run.
    """
    one, four = map(mean_images.devices_of, (1, 4))
    scale_runs.run(four, tmp_path, seed=5, num_seeds=2)
    init = scale_runs.experiment().init
    ends = []
    for seed in (5, 6):
        workdir, alone = tmp_path / f"seed_{seed}", tmp_path / f"alone_{seed}"
        scale_runs.run(one, alone, seed=seed)
        rows, expected = scale_runs.rows(workdir), scale_runs.rows(alone)
        for name in ("step", "objects", "draws", "images"):
            assert column(rows, name) == column(expected, name)
        start = scale_runs.plain(init(jax.random.key(seed)))
        ends.append(scale_runs.end(alone, init))
        scale_runs.assert_equal(scale_runs.end(workdir, init), ends[-1], start)
    differ = jax.tree.map(lambda a, b: np.any(a != b), ends[0].params, ends[1].params)
    assert all(jax.tree.leaves(differ))


def test_what_several_seeds_leave_behind(tmp_path, config, singles, capsys):
    """Each a whole workdir, as that of its single run; lines tell which seed they mean.

    Each can go on alone.
    """
    capsys.readouterr()
    result = mean_images.run(config, tmp_path / "both")
    assert (result.step, len(result.held_out)) == (6, 2)
    printed = capsys.readouterr().out.splitlines()
    assert {line[:7] for line in printed} == {"seed 3:", "seed 4:"}
    for seed in (3, 4):
        _assert_same(tmp_path / "both" / f"seed_{seed}", singles / f"seed_{seed}")
    with pytest.raises(cli.UserError, match="several seeds are in it: seed_3, seed_4"):
        run_config.read_config(tmp_path / "both")
    config.update(seed=4, num_seeds=1, num_steps=8)
    mean_images.run(config, shutil.copytree(singles / "seed_4", tmp_path / "alone"))
    mean_images.run(config, tmp_path / "both" / "seed_4")
    _assert_same(tmp_path / "both" / "seed_4", tmp_path / "alone")


def test_an_interruption_stores_every_seed(tmp_path, config, singles):
    """After SIGTERM all stop after the same step, and go on from it."""
    with pytest.raises(KeyboardInterrupt, match="SIGTERM: stopped after step 3"):
        mean_images.run(
            config,
            tmp_path / "both",
            num_devices=4,
            on_measure=lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
    for seed in (3, 4):
        assert mean_images.last(tmp_path / "both" / f"seed_{seed}")[0] == 3
    mean_images.run(config, tmp_path / "both", num_devices=4)
    for seed in (3, 4):
        _assert_same(tmp_path / "both" / f"seed_{seed}", singles / f"seed_{seed}")


def test_a_run_killed_between_two_checkpoints(tmp_path, config, singles, capsys):
    """One seed is a checkpoint ahead, which is given up: all go on from the same step.

    Also where the other has none yet. A warning says where the checkpoint is kept.
    """
    for last in (4, 2):
        workdir = tmp_path / f"killed_at_{last}"
        config.num_steps = last
        mean_images.run(config, workdir)
        shutil.rmtree(workdir / "seed_4" / "checkpoints" / str(last))
        config.num_steps = 6
        capsys.readouterr()
        mean_images.run(config, workdir)
        aside = workdir / "seed_3" / "given_up_checkpoints"
        assert capsys.readouterr().err == (
            f"warning: {workdir}/seed_3 goes back to step {last - 2}, where the other"
            f" seeds are: its checkpoint of step {last} is kept in {aside}.\n"
        )
        assert [path.name for path in aside.iterdir()] == [f"{last}-0"]
        for seed in (3, 4):
            _assert_same(workdir / f"seed_{seed}", singles / f"seed_{seed}")


def test_a_seed_that_comes_later(tmp_path, config):
    """It does not throw the others back to the start, who have one checkpoint each.

    Nor when the command is tried again.
    """
    config.num_steps = 2
    mean_images.run(config, tmp_path)
    config.num_seeds = 3
    for _ in range(2):
        with pytest.raises(cli.UserError, match="seed_3 has gone on to step 2 without"):
            mean_images.run(config, tmp_path)
    for seed in (3, 4):
        assert mean_images.last(tmp_path / f"seed_{seed}")[0] == 2


def test_one_seed_and_several_are_not_mixed_up(tmp_path, config):
    """Neither begins anew where the other is meant to go on."""
    for seed in (3, 4):
        run_config.claim(tmp_path / f"seed_{seed}", config)
    config.num_seeds = 1
    with pytest.raises(cli.UserError, match="of several seeds, seed_3, seed_4: go on"):
        mean_images.run(config, tmp_path)
    assert not (tmp_path / "config.json").exists()
    config.num_seeds = 2
    with pytest.raises(cli.UserError, match="seed_3 holds the run of one seed: leave"):
        mean_images.run(config, tmp_path / "seed_3")


def test_a_seed_that_has_gone_on_alone(tmp_path, config):
    """It is not thrown back: the message says how to train the others.

    Nor is another that could go back, if there is one without any checkpoint.
    """
    config.num_steps = 2
    mean_images.run(config, tmp_path)
    config.update(seed=4, num_seeds=1, num_steps=6)
    mean_images.run(config, tmp_path / "seed_4")
    config.seed = 5
    run_config.claim(tmp_path / "seed_5", config)
    config.seed = 3
    for config.num_seeds in (2, 3):
        with pytest.raises(cli.UserError, match="seed_4 has gone on to step 6 without"):
            mean_images.run(config, tmp_path)
    for seed, last in ((3, 2), (4, 6)):
        assert mean_images.last(tmp_path / f"seed_{seed}")[0] == last


def test_a_seed_that_fails(tmp_path, config):
    """The message names one that diverges, and what is left of every seed.

    The same where the system refuses one a file.
    """
    config.num_steps = 2
    mean_images.run(config, tmp_path)
    config.num_steps = 6
    with pytest.raises(cli.UserError, match=r"seed 3: step 4: .* is of step 2"):
        mean_images.run(config, tmp_path, spoilt_step=4)
    shutil.rmtree(tmp_path / "seed_4" / "pictures")
    (tmp_path / "seed_4" / "pictures").touch()
    with pytest.raises(cli.UserError) as error:
        mean_images.run(config, tmp_path)
    assert re.fullmatch(
        r"the system refuses .*seed_4/pictures.*\.\nseed 3: Checkpoints are kept, the"
        r" last good one is of step 2\. seed 4: Checkpoints are kept, .*\. Once .*",
        str(error.value),
    )


def test_a_seed_that_skips_a_step():
    """The others make it."""
    toy = mean_images.experiment()
    models = seeds.Seeds(mean_images.devices_of(1), 2)
    step = models.compile(guard.skip_what_spoils(toy.train_step_at(1)))
    states = models.place([toy.init(jax.random.key(seed)) for seed in (3, 4)])
    images = np.full((2, 64, 64, 3), 255, np.float32)
    states, metrics = step(states, [images, np.nan * images])
    assert [one.metrics.skipped for one in metrics] == [0, 1]
    made, skipped = models.each(states)
    assert (made.step, skipped.step) == (1, 1)
    assert np.all(made.params["mean"] > 0) and not np.any(skipped.params["mean"])


def test_seeds_of_a_config(tmp_path, data_dir):
    """As the command trains them, and as the library loads each.

    The laptop's recipe: a step of the whole model, one on touching scenes, and one on
    the importance-weighted bound.
    """
    config = cli.load_config(str(ROOT / LAVAE))
    config.data.data_dir = data_dir
    config.warmup.lead_steps = config.warmup.proposal_steps = 0
    config.touching.steps = config.importance.steps = 1
    config.update(num_steps=3, num_seeds=2)
    loop.train_and_evaluate(config, tmp_path, jax.devices()[:1])
    (_, first), (model, second) = (
        lavae_jax.load(tmp_path / f"seed_{seed}") for seed in (0, 1)
    )
    assert model == build.build_model(config)
    differ = jax.tree.map(lambda a, b: np.any(a != b), first, second)
    assert any(jax.tree.leaves(differ))
    config.update(seed=1, num_seeds=1)
    assert run_config.read_config(tmp_path / "seed_1") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_seeds=0), "num_seeds must be at least 1: got 0"),
        (
            dict(num_seeds=2, seed=2**32 - 1),
            "seed must be from 0 to 4294967295, and so",
        ),
    ],
)
def test_impossible_numbers_of_seeds(tmp_path, changes, message):
    """Refused before anything is done."""
    config = cli.load_config(str(ROOT / BASELINE))
    config.update(changes)
    with pytest.raises(cli.UserError, match=message):
        loop.train_and_evaluate(config, tmp_path / "run", jax.devices()[:1])
    assert not list(tmp_path.iterdir())
