"""The list of ablations: what is in it, and the configs and commands of its runs."""

import shlex

import pytest
from absl import flags
from ml_collections import config_flags

from experiments import (
    ablations,
    ablations_results,
    ablations_settings,
    build,
    cli,
    run_config,
)
from experiments.ablations_list import SETTINGS
from experiments.configs import base, dsprites, mnist_1k, mnist_10k
from lavae_jax.training import recipe as recipes
from tests.commands import run_python

pytestmark = pytest.mark.standard_promotion

LAPTOP = "experiments/configs/dsprites.py:laptop"

# What says how long a run and its phases are, not how it is trained; and what belongs
# to a choice that the list has: to cosine decay, to training h_loc in some steps.
LENGTHS = {
    *("num_steps", "log_every", "picture_every", "checkpoint_every"),
    *("warmup.hold_steps", "warmup.fade_steps", "warmup.epsilon_steps"),
    *("warmup.settle_steps", "optimizer.rise_steps", "optimizer.final_factor"),
    "importance.steps",
}


@pytest.fixture(scope="module")
def laptop_runs():
    """The whole list for the laptop variant."""
    return ablations.plan(dsprites.get_config("laptop"), LAPTOP)


@pytest.mark.parametrize(
    ("file", "module"), [("mnist_1k", mnist_1k), ("mnist_10k", mnist_10k)]
)
def test_other_configs_take_the_list(file, module, laptop_runs):
    """No setting is impossible with another data set."""
    file = f"experiments/configs/{file}.py:laptop"
    runs = ablations.plan(module.get_config("laptop"), file)
    assert len(runs) == len(laptop_runs)


def _parsed(command):
    """The config that a training command names, as its flags read it."""
    _, *argv = shlex.split(command)
    cli.check_config_flags(argv)
    values = flags.FlagValues()
    flag = config_flags.DEFINE_config_file(
        "config", flag_values=values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    values([argv[0], *argv[2:]])
    return flag.value, values.workdir


# ml_collections loads config files in a way that Python will drop.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_commands_train_the_runs(laptop_runs):
    """Each command, on its own, is one run of the list: its config and its place."""
    assert len(laptop_runs) == sum(len(setting.seeds) for setting in SETTINGS)
    assert len({run.folder for run in laptop_runs}) == len(laptop_runs)
    for run in laptop_runs:
        config, workdir = _parsed(run.command)
        assert config.to_dict() == run.config.to_dict(), run.setting.name
        assert workdir == str(run.folder), run.setting.name


def test_runs_change_what_they_say(laptop_runs):
    """Against the run of its base, a run changes its setting's values and no other."""
    first = {run.setting.name: run for run in reversed(laptop_runs)}
    assert list(first)[::-1] == [setting.name for setting in SETTINGS]
    for run in first.values():
        group = run.setting.group
        there = first[group.base.name if group else "base"].config
        old, new = map(cli.flatten, (there, run.config))
        different = {name: new[name] for name in new if new[name] != old[name]}
        assert different == run.changes
        assert bool(different) == (group is not None), run.setting.name


def test_every_change_of_the_laptop_variant_is_in_the_list():
    """What it trains differently from the paper variant, some setting changes."""
    paper, laptop = cli.flatten(base.paper()), cli.flatten(base.laptop())
    different = {name for name in paper if paper[name] != laptop[name]}
    listed = {name for setting in SETTINGS for name in setting.changes}
    assert different > LENGTHS
    assert different - LENGTHS <= listed
    # And with the paper's value, but for the width of networks that take hours.
    undone = {
        name
        for setting in SETTINGS
        for name, value in setting.changes.items()
        if value == paper[name]
    }
    lengths = {"warmup.auxiliary_steps", "warmup.location_weight_final"}
    assert different - undone - LENGTHS <= {"model.channels"} | lengths


def test_short_runs_show_the_whole_recipe():
    """Warm-up as it is; then every phase, and schedules that end with the run."""
    whole = base.laptop()
    short = ablations_settings.shortened(whole, 3_200)
    for name in ("auxiliary_steps", "lead_steps", "proposal_steps"):
        assert short.warmup[name] == whole.warmup[name]
    recipe = build.build_recipe(short)
    phases = [recipes.phase_at(recipe, step) for step in range(1, 3_201)]
    assert [phase.propose for phase in phases] == [True] * 1600 + [False] * 1600
    # (3000 - 1600) of 14400 steps after the warm-up are 156 of 1600.
    assert all(phase.location for phase in phases[:1756])
    assert [phase.location for phase in phases[1756:1760]] == [False, True] * 2
    schedules = build.build_schedules(short)
    assert float(schedules.bump_sigma(1756)) == 3.0
    # (9000 - 1600) of 14400 are 822 of 1600.
    assert float(schedules.bump_sigma(2421)) > 1.0 == float(schedules.bump_sigma(2422))
    assert float(schedules.epsilon(3200)) == pytest.approx(1e-6)
    rates = build.build_optimizer(short).learning_rates
    assert float(rates.rest(3200)) == pytest.approx(2e-5)
    assert float(rates.location(3200)) == pytest.approx(2e-5)


def test_the_whole_length_changes_no_phase():
    """Only what is reported differs from the recipe on its own number of steps."""
    whole = base.laptop()
    joint = run_config.ends(whole).joint_steps
    assert joint < whole.num_steps
    short = ablations_settings.shortened(whole, joint)
    assert run_config.differences(whole, short) == []


def test_the_command_lists_the_runs(laptop_runs):
    """Without a config those of multi-dSprites' laptop variant, and what they cost."""
    done = run_python("-m", "experiments.ablations", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    for run in laptop_runs:
        assert f"\n  {run.command}\n" in done.stdout
    assert done.stdout.endswith("56 runs, 188,800 steps\n")


def test_operations_of_whole_images():
    """Convolutions at every pixel take four times those at every other, or nearly."""
    config = base.laptop()
    fast = ablations_results.image_gflop(config)
    config.model.stem_stride = 1
    # The first and the last layer do not grow with the others.
    assert 3.5 < ablations_results.image_gflop(config) / fast < 4.0
