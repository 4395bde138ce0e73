"""A workdir is that of one config, and some of it may change."""

import json

import numpy as np
import pytest

from experiments import checkpoints, cli, run_config
from experiments.configs import baseline_dsprites, dsprites
from tests.tiny_runs import any_config


def _save(workdir, step=1):
    checkpoints.Checkpoints(workdir).save(step, {"weight": np.ones(2)}, {})


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
    del older.on_nan
    run_config.claim(tmp_path, older)
    _save(tmp_path)
    assert run_config.read_config(tmp_path).on_nan == "stop"
    run_config.claim(tmp_path, any_config(on_nan="skip"))
    assert run_config.read_config(tmp_path).on_nan == "skip"


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


def test_touching_scenes_may_be_added(tmp_path, capsys):
    """To a run trained without, also by a version that knew none: no step changes."""
    older, longer = (dsprites.get_config("laptop") for _ in range(2))
    older.num_steps -= older.touching.steps
    del older.touching, older.warmup.orphans
    run_config.claim(tmp_path, older)
    _save(tmp_path)
    there = run_config.read_config(tmp_path)
    assert (there.touching.steps, there.warmup.orphans) == (0, 3)
    run_config.claim(tmp_path, longer)
    assert not capsys.readouterr().out
    assert run_config.read_config(tmp_path) == longer


@pytest.mark.parametrize(
    ("there", "done", "here", "refused"),
    [
        ((10, 0), 8, (10, 4), True),  # of 8 steps made 2 would have been others
        ((10, 4), 8, (10, 0), True),
        ((10, 4), 8, (14, 4), True),
        ((10, 4), 8, (14, 8), False),  # more of those it is at
        ((10, 4), 6, (14, 8), False),
        ((10, 0), 10, (14, 4), False),
        ((10, 4), 5, (20, 8), False),
    ],
)
def test_steps_that_were_made_stay_what_they_were(tmp_path, there, done, here, refused):
    """num_steps and touching.steps may change as far as no step made does."""
    configs = [dsprites.get_config("tiny") for _ in range(2)]
    for config, (num_steps, touching) in zip(configs, (there, here), strict=True):
        config.num_steps, config.touching.steps = num_steps, touching
    run_config.claim(tmp_path, configs[0])
    _save(tmp_path, step=done)
    if not refused:
        run_config.claim(tmp_path, configs[1])
        return
    message = (
        rf"num_steps - touching.steps: {there[0] - there[1]} there, .* {done} steps"
    )
    with pytest.raises(cli.UserError, match=message):
        run_config.claim(tmp_path, configs[1])


def test_the_baseline_knows_no_touching_scenes(tmp_path):
    """Its config is read as it was written."""
    config = baseline_dsprites.get_config("tiny")
    run_config.claim(tmp_path, config)
    assert run_config.read_config(tmp_path) == config
