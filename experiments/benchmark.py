"""Measures how long a train step takes, part by part.

python -m experiments.benchmark --config=experiments/configs/dsprites.py:laptop

Prints what each part of the step takes on one device, and the images per second of
every phase of training and of the whole run. No data set is needed: scenes are made on
the fly (see `benchmark_scenes`), and the location network of a fresh model is first
taught to see their objects, 1.5 per image. A part computes its gradient too where it is
trained. Everything is run in turn, so that noise of the machine hits all alike.

Floating-point operations are those that XLA's cost analysis counts in the compiled
program: of two buffers for objects the one that is used, but for refinement the larger
one; of a loop one turn; of a Fourier transform more than a fast one takes. The rate of
the machine is that of a matrix product in the same run.

With --compare also the plain forms of the same networks (`benchmark_plain`), in the
same run. At every site of a large batch, the appearance network of the laptop variant
takes minutes and gigabytes on a CPU: `--config.batch_size=8 --repeats=3` compares on a
smaller one, the same for all forms, although that hides what decoding few slots saves.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from tqdm import auto as tqdm

from experiments import (
    benchmark_data,
    benchmark_parts,
    benchmark_phases,
    benchmark_plain,
    benchmark_programs,
    benchmark_scenes,
    build,
    cli,
    input_pipeline,
    own_data,
    report,
)
from experiments.benchmark_report import (
    Benchmark,
    FormSpeed,
    PartCost,
    PhaseSpeed,
    print_tables,
)
from lavae_jax.config import is_baseline
from lavae_jax.training.state import TrainState

_MATMUL = "matrix product"


class _Plan(NamedTuple):
    """What is measured."""

    config: ConfigDict
    experiment: build.Experiment
    scenes: benchmark_scenes.Scenes
    state: TrainState
    phases: list[benchmark_phases.Occurrence]
    parts: list[tuple[benchmark_parts.Part, float]]  # and how often per step
    forms: tuple[benchmark_plain.Form, ...]


def benchmark(
    config: ConfigDict,
    repeats: int = 10,
    compare: bool = False,
    grouped: bool | None = None,
) -> Benchmark:
    """Measures the train step of a config.

    Args:
      config: A run's config.
      repeats: How often everything is run.
      compare: Whether to measure the plain forms too.
      grouped: How these composite, see `benchmark_plain.PlainLAVAE`; by default not on
        a CPU.

    Returns:
      What was measured.

    Raises:
      cli.UserError: For values that nothing can be measured with.
    """
    _check(config, repeats)
    with cli.user_errors(ValueError):
        experiment = build.build(config)
    grouped = jax.default_backend() != "cpu" if grouped is None else grouped
    model = build.build_model(config, dtype=build.train_dtype(config))
    forms = benchmark_plain.forms(model, grouped)
    plan = _plan(config, experiment, forms if compare else forms[:1])
    programs = _compile(plan)
    times = benchmark_programs.measure(programs, repeats)
    rate = programs[_MATMUL].rate(times[_MATMUL].median)
    speeds = tuple(_form_speed(plan, form, programs, times) for form in plan.forms)
    return Benchmark(
        dataset=config.data.name,
        device=jax.devices()[0].device_kind,
        batch_size=config.batch_size,
        objects_per_image=float(plan.scenes.n.mean()),
        objects_seen=benchmark_scenes.objects_seen(model, plan.state, plan.scenes),
        repeats=repeats,
        matmul_gflop_per_second=rate,
        parts=tuple(
            _part_cost(part, per_step, programs, times, speeds[0].milliseconds, rate)
            for part, per_step in plan.parts
        ),
        phases=tuple(_phase_speed(plan, phase, times) for phase in plan.phases),
        forms=speeds,
    )


def _check(config, repeats):
    """Refuses what can't be measured, before anything is computed."""
    if repeats < 1:
        raise cli.UserError(f"--repeats must be at least 1: got {repeats}.")
    for name in ("batch_size", "num_steps"):
        if config[name] < 1:
            raise cli.UserError(f"{name} must be at least 1: got {config[name]}.")
    if own_data.is_own(config):
        raise cli.UserError(
            "the benchmark makes scenes itself: take the config of a named data set."
        )
    input_pipeline.check_fit(config)
    if is_baseline(config):
        raise cli.UserError("the baseline has no such parts: take a config of LAVAE.")


def _plan(config, experiment, forms):
    model, phases = forms[0].model, benchmark_phases.occurring(config)
    scenes = benchmark_scenes.make(
        config.data.name, config.batch_size, model.max_objects
    )
    state = jax.jit(experiment.init)(jax.random.key(config.seed))
    parts = [
        (
            part,
            sum(p.num_steps * part.times(p.phase) for p in phases) / config.num_steps,
        )
        for part in benchmark_parts.make_parts(config, model)
    ]
    return _Plan(
        config=config,
        experiment=experiment,
        scenes=scenes,
        state=benchmark_scenes.teach(model, state, scenes, config.warmup.bump_height),
        phases=phases,
        parts=[(part, per_step) for part, per_step in parts if per_step],
        forms=forms,
    )


def _compile(plan):
    """The programs to be timed, by name or by form and phase."""
    data = benchmark_data.make_data(
        plan.config, plan.forms[0].model, plan.state, plan.scenes
    )
    jobs = {_MATMUL: benchmark_programs.matmul}
    for part, _ in plan.parts:
        jobs[part.name] = functools.partial(_compile_part, part, plan.state, data)
    for form in plan.forms:
        for phase in plan.phases:
            name = form.name, phase.phase
            jobs[name] = functools.partial(_compile_step, plan, form, phase)
    progress = tqdm.tqdm(jobs.items(), desc="compiling")
    return {name: compile_one() for name, compile_one in progress}


def _compile_part(part, state, data):
    program = benchmark_programs.make(part.run, state, data)
    if not program.has_branches:
        return program
    # Where the objects are known at compilation, XLA cuts the other branches off and
    # counts what is computed. What is timed should not know them.
    active = np.asarray(data.at.active)

    def known(state, data):
        return part.run(state, data._replace(at=data.at._replace(active=active)))

    counted = benchmark_programs.make(known, state, data)
    return program._replace(gflop=counted.gflop)


def _compile_step(plan, form, phase):
    if form is plan.forms[0]:
        train_step = plan.experiment.train_step_at(phase.first_step)
    else:
        train_step = benchmark_phases.make_train_step(
            plan.config, form.model, phase.phase
        )
    state = plan.state._replace(step=jnp.asarray(phase.first_step - 1, jnp.int32))
    return benchmark_programs.make(train_step, state, plan.scenes.images)


def _part_cost(part, per_step, programs, times, milliseconds, matmul_rate):
    program, time = programs[part.name], times[part.name]
    rate = program.rate(time.median)
    return PartCost(
        name=part.name,
        per_step=per_step,
        time=time,
        share=per_step * time.median / milliseconds,
        gflop=program.gflop,
        gflop_per_second=rate,
        of_matmul=rate / matmul_rate,
    )


def _phase_speed(plan, phase, times):
    time = times[plan.forms[0].name, phase.phase]
    return PhaseSpeed(
        name=phase.name,
        first_step=phase.first_step,
        num_steps=phase.num_steps,
        time=time,
        images_per_second=1e3 * plan.config.batch_size / time.median,
    )


def _form_speed(plan, form, programs, times):
    names = [(form.name, phase.phase) for phase in plan.phases]
    counts = [phase.num_steps for phase in plan.phases]
    medians = [times[name].median for name in names]
    milliseconds = float(np.average(medians, weights=counts))
    return FormSpeed(
        name=form.name,
        milliseconds=milliseconds,
        images_per_second=1e3 * plan.config.batch_size / milliseconds,
        gigabytes=max(programs[name].gigabytes for name in names),
    )


def main() -> None:
    """Prints the tables of the config named on the command line."""
    values = flags.FLAGS
    if values.json is not None:
        path = pathlib.Path(values.json)
        with cli.user_errors(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise cli.UserError(f"--json: {path} is a folder: name a file.")
    result = benchmark(values.config, values.repeats, values.compare, values.grouped)
    print_tables(result, Console())
    if values.json is not None:
        report.write(result, path)


def _define_flags():
    """The flags of the command; not on import, where others may have the same names."""
    cli.define_config()
    flags.DEFINE_integer("repeats", 10, "How often everything is run.")
    flags.DEFINE_boolean("compare", False, "Whether to measure the plain forms too.")
    flags.DEFINE_boolean(
        "grouped",
        None,
        "Whether the plain forms composite by one grouped convolution, not one"
        " convolution per image; by default everywhere but on a CPU.",
    )
    flags.DEFINE_string("json", None, "A file to write the figures to.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
