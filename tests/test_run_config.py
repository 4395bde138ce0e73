"""A workdir is that of one config, and some of it may change."""

import json

import numpy as np
import pytest

from experiments import cli
from experiments.configs import baseline_dsprites, dsprites
from experiments.run import checkpoints
from experiments.run import config as run_config
from tests.tiny_runs import any_config


def _save(workdir, step=1):
    checkpoints.Checkpoints(workdir).save(
        step, {"weight": np.ones(2)}, checkpoints.Position({}, [])
    )


def test_checkpoints_without_a_config(tmp_path):
    """Whose they are is not known: no run takes them for its own."""
    workdir = tmp_path / "run"
    run_config.claim(workdir, any_config())
    _save(workdir)
    (workdir / "config.json").unlink()
    with pytest.raises(cli.UserError, match=r"holds checkpoints, but no config\.json"):
        run_config.claim(workdir, any_config())
    for content in ("{", "[3]", '{"data": 3}'):
        (workdir / "config.json").write_text(content)
        with pytest.raises(cli.UserError, match=r"config\.json can't be read"):
            run_config.claim(workdir, any_config())


def test_another_config_is_refused(tmp_path):
    """A workdir in use is not overwritten: every difference is listed."""
    run_config.claim(tmp_path, any_config())
    _save(tmp_path)
    other = any_config(seed=1, num_steps=20, extra=4)
    with pytest.raises(cli.UserError) as error:
        run_config.claim(tmp_path, other)
    lines = str(error.value).splitlines()
    assert lines[1:3] == ["  extra: absent there, 4 here", "  seed: 0 there, 1 here"]
    assert len(lines) == 4
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_a_run_may_be_extended(tmp_path):
    """The same config, or one that differs in length only, goes on; it is kept."""
    run_config.claim(tmp_path, any_config())
    _save(tmp_path)
    run_config.claim(tmp_path, any_config())
    run_config.claim(tmp_path, any_config(num_steps=20))
    assert run_config.read_config(tmp_path) == any_config(num_steps=20)


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """What its config does not know of has the value that it had without a name."""
    older = any_config()
    del older.precision
    older.num_seeds = 1  # means nothing any more
    run_config.claim(tmp_path, older)
    _save(tmp_path)
    assert run_config.read_config(tmp_path) == any_config(precision="float32")
    run_config.claim(tmp_path, any_config())


def test_a_new_length_says_what_it_does_to_a_cosine(tmp_path, capsys):
    """Once, and only where the learning rates depend on the length."""
    for decay in ("cosine", "constant"):
        workdir = tmp_path / decay
        config = any_config(optimizer={"decay": decay})
        longer = any_config(optimizer={"decay": decay}, num_steps=20)
        run_config.claim(workdir, config)
        _save(workdir, step=7)
        run_config.claim(workdir, config)
        assert not capsys.readouterr().out
        run_config.claim(workdir, longer)
        said = capsys.readouterr().out
        run_config.claim(workdir, longer)
        assert not capsys.readouterr().out
        run_config.claim(workdir, any_config(optimizer={"decay": decay}, num_steps=7))
        assert not capsys.readouterr().out  # nothing is left to train
        if decay == "constant":
            assert not said
        else:
            assert "to fall until step 10, and now do until step 20: from" in said
            assert "from step 7 on, they jump to those of such a run" in said


def test_a_workdir_without_checkpoints_is_free(tmp_path):
    """A run that never stored anything doesn't hold its folder."""
    run_config.claim(tmp_path, any_config())
    run_config.claim(tmp_path, any_config(seed=1))
    assert run_config.read_config(tmp_path).seed == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    """A path below a file is refused with the path, before anything is computed."""
    (tmp_path / "file").write_text("")
    with pytest.raises(cli.UserError, match="file"):
        run_config.claim(tmp_path / "file" / "run", any_config())


def test_steps_of_single_parts_may_be_added(tmp_path, capsys):
    """To a run trained without, also by a version that knew none: no step changes."""
    older, longer = (dsprites.get_config("laptop") for _ in range(2))
    older.num_steps -= older.touching.steps + older.importance.steps
    del older.touching, older.importance, older.warmup.orphans
    run_config.claim(tmp_path, older)
    _save(tmp_path)
    there = run_config.read_config(tmp_path)
    assert (there.touching.steps, there.warmup.orphans) == (0, 3)
    assert there.importance.steps == 0
    run_config.claim(tmp_path, longer)
    assert not capsys.readouterr().out
    assert run_config.read_config(tmp_path) == longer


@pytest.mark.parametrize(
    ("there", "done", "here", "changed"),
    [
        ((10, 0, 0), 8, (10, 4, 0), "joint"),  # of 8 steps made 2 would be others
        ((10, 4, 0), 8, (10, 0, 0), "joint"),
        ((10, 4, 0), 8, (14, 4, 0), "joint"),
        ((10, 4, 0), 8, (14, 8, 0), None),  # more of those it is at
        ((10, 4, 0), 6, (14, 8, 0), None),
        ((10, 0, 0), 10, (14, 4, 0), None),
        ((10, 4, 0), 5, (20, 8, 0), None),
        ((10, 4, 0), 8, (10, 2, 2), None),
        ((10, 4, 0), 9, (10, 2, 2), "importance"),
        ((10, 2, 2), 9, (12, 2, 4), None),
        ((10, 2, 2), 9, (12, 4, 2), "importance"),
        ((10, 0, 4), 6, (12, 2, 4), None),
        ((10, 0, 4), 7, (12, 2, 4), "importance"),
    ],
)
def test_steps_that_were_made_stay_what_they_were(tmp_path, there, done, here, changed):
    """The steps of each kind may change as far as no step made does."""
    configs = [dsprites.get_config("tiny") for _ in range(2)]
    for config, values in zip(configs, (there, here), strict=True):
        config.num_steps, config.touching.steps, config.importance.steps = values
    run_config.claim(tmp_path, configs[0])
    _save(tmp_path, step=done)
    if changed is None:
        run_config.claim(tmp_path, configs[1])
        return
    name = r"  num_steps - importance.steps"
    name += r" - touching.steps" if changed == "joint" else ""
    old = there[0] - there[2] - (there[1] if changed == "joint" else 0)
    with pytest.raises(cli.UserError, match=rf"{name}: {old} there, .* {done} steps"):
        run_config.claim(tmp_path, configs[1])


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("touching.learning_rate", 6),
        ("importance.learning_rate", 8),
        ("importance.num_samples", 8),
        ("importance.elbo_share", 8),
    ],
)
def test_settings_of_single_parts(tmp_path, name, begin):
    """They may change as long as there are no steps that went by them."""
    here, there = (dsprites.get_config("tiny") for _ in range(2))
    for config in (here, there):
        config.num_steps, config.touching.steps, config.importance.steps = 10, 2, 2
    here.update_from_flattened_dict({name: 1})
    run_config.claim(tmp_path, there)
    _save(tmp_path, step=begin)
    run_config.claim(tmp_path, here)
    run_config.claim(tmp_path, there)
    _save(tmp_path, step=begin + 1)
    with pytest.raises(cli.UserError, match=f"  {name}: .* from step {begin} on"):
        run_config.claim(tmp_path, here)


@pytest.mark.parametrize(
    ("done", "here", "said"),
    [
        (5, (14, 3, 6), None),  # The steps on touching scenes have not begun.
        (6, (14, 3, 6), "until step 7, and now do until step 8: from step 6 on"),
        (7, (12, 2, 5), None),
        (8, (12, 2, 5), "until step 10, and now do until step 12: from step 8 on"),
    ],
)
def test_a_new_length_of_single_parts(tmp_path, capsys, done, here, said):
    """Their rates fall along cosines of their own: it is said where these change."""
    configs = [dsprites.get_config("tiny") for _ in range(2)]
    for config, values in zip(configs, ((10, 2, 3), here), strict=True):
        config.num_steps, config.touching.steps, config.importance.steps = values
    run_config.claim(tmp_path, configs[0])
    _save(tmp_path, step=done)
    run_config.claim(tmp_path, configs[1])
    found = capsys.readouterr().out
    assert not found if said is None else said in found


def test_the_baseline_knows_no_steps_of_single_parts(tmp_path):
    """Its config is read as it was written."""
    config = baseline_dsprites.get_config("tiny")
    run_config.claim(tmp_path, config)
    assert run_config.read_config(tmp_path) == config
