"""Kills a training run at random moments, and compares its end with an unbroken one's.

python -m experiments.kill_test --config=experiments/configs/dsprites.py:tiny \
  --config.num_steps=100 --config.checkpoint_every=2 --config.log_every=3 \
  --workdir=runs/kill_test --kills=20

The command `experiments.train` is killed (SIGKILL) while it starts, while it makes
steps, and while it writes a checkpoint, and each time started again; in between it is
told to stop (SIGTERM), as before a machine is taken away. At the end its parameters,
optimiser state, position in the data and metrics must be bitwise those of a run that
nothing has happened to, and all its files whole. Both runs and what they print stay in
the workdir, which must be a new one.
"""

import os
import pathlib
import random
import shlex
import shutil
import signal
import statistics
import sys
from typing import NamedTuple

from absl import flags
from ml_collections import config_flags

from experiments import cli, kill_checks
from experiments.killable import Life
from lavae_jax import runs

_TRIES = 3


class Moment(NamedTuple):
    """When a run is to end.

    Attributes:
      at: "start", "step" or "write".
      number: what it waits for: seconds since the start, but not beyond it; the step
        that is reported; or how many checkpoints are begun.
      delay: seconds from then on.
      signal: SIGKILL or SIGTERM.
    """

    at: str
    number: float
    delay: float
    signal: signal.Signals


class Pace(NamedTuple):
    """How fast the unbroken run was, in seconds."""

    start: float  # until the first step is made, of the last start that came to it
    step: float
    write: float  # of a checkpoint


def kill_test(
    command: list[str],
    workdir: pathlib.Path,
    num_steps: int,
    checkpoint_every: int,
    kills: int,
    stops: int,
    seed: int,
) -> None:
    """Runs the test; see above. Prints a line per kill, and the verdict.

    Args:
      command: What trains, without its workdir.
      workdir: A new folder.
      num_steps: Where the runs end.
      checkpoint_every: Steps between checkpoints.
      kills: How often SIGKILL is sent.
      stops: How often SIGTERM is sent.
      seed: Gives the moments.

    Raises:
      cli.UserError: If the ends differ, a file is not whole, or the test can't be made.
    """
    if workdir.exists() and any(workdir.iterdir()):
        raise cli.UserError(f"{workdir} is not empty: give the test a new --workdir.")
    if num_steps < 2 * (kills + stops) * checkpoint_every:
        raise cli.UserError(
            "the run is too short to be ended so often: --config.num_steps must be at"
            f" least 2 x {kills + stops} x {checkpoint_every} (checkpoint_every): got"
            f" {num_steps}."
        )
    rng = random.Random(seed)
    unbroken, killed = workdir / "unbroken", workdir / "killed"
    pace = _unbroken(command, unbroken)
    ways = _ways(rng, kills, stops)
    for index, (at, number) in enumerate(ways):
        stored = max(runs.checkpoint_steps(killed), default=0)
        # As if there were two more to come, so that the run outlasts them all.
        steps = max((num_steps - stored) // (len(ways) - index + 2), 1)
        moment = _moment(rng, at, number, stored, steps, checkpoint_every, pace)
        life, what = _end(command, killed, moment, num_steps)
        pace = pace._replace(start=life.first_step_seconds or pace.start)
        print(
            f"{index + 1:3d}  {number.name} {life.seconds:5.1f} s after a start from"
            f" step {stored}: {what}",
            flush=True,
        )
    _to_the_end(command, killed)
    problems = kill_checks.problems(unbroken, killed)
    if problems:
        raise cli.UserError("\n".join(["the runs differ:", *problems]))
    print(
        f"{kills} kills and {stops} stops: parameters, optimiser state, position in the"
        f" data and metrics of step {num_steps} are bitwise those of an unbroken run,"
        " and every file is whole."
    )


def _unbroken(command, workdir):
    """The unbroken run, and how fast it was."""
    with Life(command, workdir) as life:
        life.wait(lambda: not life.alive)
    life.check_success()
    pace = Pace(
        start=life.first_step_seconds,
        step=life.step_seconds,
        write=statistics.median(life.write_seconds or [0]),
    )
    print(
        f"the unbroken run: {pace.start:.1f} s to the first step, then"
        f" {1e3 * pace.step:.0f} ms per step, {1e3 * pace.write:.0f} ms to write a"
        " checkpoint",
        flush=True,
    )
    return pace


def _ways(rng, kills, stops):
    """What happens at each end, in random order: two in five kills cut a checkpoint."""
    kinds = ("write", "step", "write", "start", "step")
    ways = [(kinds[index % len(kinds)], signal.SIGKILL) for index in range(kills)]
    ways += [("step", signal.SIGTERM)] * stops
    rng.shuffle(ways)
    # How long a start takes is known after one that does not compile.
    return sorted(ways[:2], key=lambda way: way[0] == "start") + ways[2:]


def _moment(rng, at, number, stored, steps, checkpoint_every, pace):
    """A random moment of this kind, such that the run lasts for all of them."""
    if at == "start":
        return Moment(at, rng.uniform(0, pace.start), 0, number)
    if at == "step":
        step = stored + rng.randint(1, max(2 * steps - 1, 1))
        return Moment(at, step, rng.uniform(0, pace.step), number)
    begun = rng.randint(1, max(2 * steps // checkpoint_every - 1, 1))
    return Moment(at, begun, rng.uniform(0, 0.9 * pace.write), number)


def _end(command, workdir, moment, num_steps):
    """Starts the run and ends it at this moment; the start, and what it was doing.

    A run that this machine was too busy to end in time is put back and started again.
    """
    before = workdir.with_name("before")
    workdir.mkdir(exist_ok=True)
    shutil.copytree(workdir, before)
    for _ in range(_TRIES):
        life = _life_until(command, workdir, moment)
        if num_steps not in runs.checkpoint_steps(workdir):
            break
        shutil.rmtree(workdir)
        shutil.copytree(before, workdir)
    else:
        raise cli.UserError(
            f"the run came to its end before it could be ended, {_TRIES} times: give it"
            " more steps, --config.num_steps."
        )
    shutil.rmtree(before)
    if moment.signal == signal.SIGTERM:
        return life, _stopped(life, workdir)
    if life.returncode != -signal.SIGKILL:
        life.check_success()
    return life, life.doing()


def _life_until(command, workdir, moment):
    """A start that has been ended at this moment, or has come to its end before."""
    with Life(command, workdir) as life:
        life.wait(lambda: _is_reached(life, moment))
        life.wait_for(moment.delay)
        if moment.at == "write":
            # The write may have ended meanwhile; this one, or a later one, is cut.
            life.wait(life.freeze_writing)
        life.end(moment.signal)
    return life


def _is_reached(life, moment):
    if moment.at == "start":
        return life.first_step_seconds or life.seconds >= moment.number
    if moment.at == "step":
        return life.last_step >= moment.number
    return life.num_writes >= moment.number


def _stopped(life, workdir):
    """What a run that was told to stop did; an error if it stored nothing."""
    stored = max(runs.checkpoint_steps(workdir), default=0)
    said = f"SIGTERM: stopped after step {stored}, which is stored."
    if life.returncode != 130 or said not in life.errors():
        raise cli.UserError(
            f"told to stop, the run did not store its step: it ended with"
            f" {life.returncode} and\n{life.errors()}"
        )
    return f"stored step {stored}"


def _to_the_end(command, workdir):
    with Life(command, workdir) as life:
        life.wait(lambda: not life.alive)
    life.check_success()


def main() -> None:
    """Tests what the flags say."""
    values = flags.FLAGS
    config, holder = values.config, values["config"]
    if config.num_seeds > 1:
        raise cli.UserError(
            "the test is of the run of one seed: leave --config.num_seeds at 1, got"
            f" {config.num_seeds}."
        )
    overrides = config_flags.get_override_values(holder)
    command = [
        *(sys.executable, "-m", "experiments.train"),
        f"--config={config_flags.get_config_filename(holder)}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
    ]
    print(f"{shlex.join(command)}\nin {values.workdir}", flush=True)
    # A start is to take seconds; the unbroken run compiles for all.
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", os.path.abspath(f"{values.workdir}/compiled")
    )
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    kill_test(
        command,
        pathlib.Path(values.workdir),
        config.num_steps,
        config.checkpoint_every,
        values.kills,
        values.stops,
        values.seed,
    )


def _define_flags():
    cli.define_config()
    flags.DEFINE_string("workdir", None, "A new folder for both runs.")
    flags.DEFINE_integer("kills", 20, "How often the run is killed.", lower_bound=0)
    flags.DEFINE_integer("stops", 2, "How often it is told to stop.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Gives the moments.")
    flags.mark_flag_as_required("workdir")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
