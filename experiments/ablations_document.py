"""The document on the ablations: everything in it comes from what runs measured."""

import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments import ablations_curves, report
from experiments.ablations_groups import BASE
from experiments.ablations_list import SETTINGS
from experiments.ablations_results import Measured, Result, Results
from experiments.ablations_settings import Group, Setting
from lavae_jax import plotting

_HEAD = """\
# Ablations

Short runs with single settings changed: what does each of them do? Written by
`python -m experiments.ablations` from what the runs measured at their end, on scenes
held out from the training split. Test splits play no part.

- Counts are the scenes whose number of objects is right: of all, and of those with the
  most objects.
- −ELBO and −log p(x) are in nats per image, with exact draws; −log p(x) is the upper
  bound from {num_samples} importance samples. Lower is better.
- ± is the standard deviation over seeds, the difference that of the means of −log p(x)
  to the first row. Where a difference is not clear of the deviation, the runs do not
  tell.
- GFLOP are those of the networks that see whole images, forward and backward, for one
  image. What is computed per object comes on top.
- Curves are the negative ELBO of training batches at the ε of their step (from where
  LAVAE is trained on), and the counts of held-out scenes.
"""

_STUDY = """
## `{config}`, {num_steps:,} steps

{num_images:,} held-out scenes. All runs share `{shared}`: the warm-up keeps its length,
and what comes later its place in the rest of the run
([`ablations_settings.py`](ablations_settings.py)).
"""


class _Column(NamedTuple):
    """A figure: its name, how it is written, and where it stands."""

    head: str
    form: str
    value: Callable[[Measured], float]


class _Spread(NamedTuple):
    """The mean over seeds, and their standard deviation: NaN for a single one."""

    mean: float
    deviation: float


def _most(measured):
    """The largest number of objects that a held-out scene has."""
    return int(np.flatnonzero(measured.confusion.sum(axis=1))[-1])


def _accuracy_of_most(measured):
    row = measured.confusion[_most(measured)]
    return float(row[_most(measured)] / row.sum())


_COUNTS = _Column("counts", ".1%", lambda measured: measured.count_accuracy)
_BOUND = _Column("−log p(x) ≤", ".1f", lambda measured: measured.negative_log_p.mean)
_COLUMNS = (
    _COUNTS,
    _Column("counts, n = {most}", ".1%", _accuracy_of_most),
    _Column("−ELBO", ".1f", lambda measured: measured.negative_elbo.mean),
    _BOUND,
)


def write(results: Sequence[Result], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes ABLATIONS.md, and results/ with the figures and all results as JSON.

    Args:
      results: Of all runs there are; those of settings that are no longer in the list
        are left out.
      folder: Where to; other files there stay.

    Returns:
      What was written.
    """
    known = [setting.name for setting in SETTINGS]
    results = [result for result in results if result.name in known]
    results.sort(key=lambda x: (x.study, known.index(x.name), x.seed))
    pictures, parts = {}, []
    for study in dict.fromkeys(result.study for result in results):
        runs = _by_setting(result for result in results if result.study == study)
        parts.append(_study_text(runs))
        for group in _groups(runs):
            names = [one.name for one in (group.base, *_settings(group, runs))]
            picture = ablations_curves.draw(
                {name: runs.get(name, []) for name in names}
            )
            pictures[_picture_name(study, group)] = picture
    inside = folder / "results"
    for name, figure in pictures.items():
        plotting.save(figure, inside / name)
    report.write(Results(tuple(results)), inside / "ablations.json")
    document = folder / "ABLATIONS.md"
    unfinished = document.with_name(".ABLATIONS.md.unfinished")
    unfinished.write_text(_head(results) + "".join(parts), encoding="utf-8")
    unfinished.replace(document)
    return [document, inside / "ablations.json", *(inside / name for name in pictures)]


def _by_setting(results: Iterable[Result]) -> dict[str, list[Result]]:
    runs = {}
    for result in results:
        runs.setdefault(result.name, []).append(result)
    return runs


def _groups(runs: Mapping[str, list[Result]]) -> list[Group]:
    """The groups of which something was run, in the order of the list."""
    found = (one.group for one in SETTINGS if one.group and one.name in runs)
    return list({group.name: group for group in found}.values())


def _settings(group: Group, runs: Mapping[str, list[Result]]) -> list[Setting]:
    return [one for one in SETTINGS if one.group == group and one.name in runs]


def _picture_name(study, group):
    return f"ablations_{study}_{group.name}.png"


def _head(results):
    sizes = {x.measured.num_samples for x in results if x.measured}
    return _HEAD.format(num_samples=" or ".join(map(str, sorted(sizes))) or "no")


def _study_text(runs):
    """The part on the runs of one config and length."""
    every = [result for of_setting in runs.values() for result in of_setting]
    sizes = {result.measured.num_images for result in every if result.measured}
    text = _STUDY.format(
        config=every[0].config,
        num_steps=every[0].num_steps,
        num_images=max(sizes, default=0),
        shared=" ".join(f"--config.{k}={v}" for k, v in every[0].shared.items()),
    )
    if missing := [f"`{one.name}`" for one in SETTINGS if one.name not in runs]:
        text += f"\nNot run: {', '.join(missing)}.\n"
    if BASE.name in runs:
        text += f"\n{_noise_text(runs)}\n{_commands([BASE], runs)}"
    return text + "".join(_group_text(group, runs) for group in _groups(runs))


def _noise_text(runs):
    nats, counts = (_spread(runs[BASE.name], column) for column in (_BOUND, _COUNTS))
    return (
        f"**{BASE.question}** −log p(x) ≤ {_text(nats, _BOUND.form)}, counts"
        f" {_text(counts, _COUNTS.form)} ({_seeds(runs[BASE.name])})."
    )


def _group_text(group, runs):
    settings = _settings(group, runs)
    shown = [one for one in (group.base, *settings) if one.name in runs]
    picture = _picture_name(runs[settings[0].name][0].study, group)
    return "\n".join(
        [
            f"\n### {group.title}\n",
            *_table(shown, group, runs),
            "",
            *(f"- {_answer(setting, runs)}" for setting in settings),
            f"\n![Curves of these runs](results/{picture})\n",
            _commands(settings, runs),
        ]
    )


def _table(settings, group, runs):
    measured = [x.measured for one in settings for x in runs[one.name] if x.measured]
    most = max(map(_most, measured), default=0)
    head = [
        "",
        "changed",
        "seeds",
        *(column.head.format(most=most) for column in _COLUMNS),
        "difference",
        "parameters",
        "GFLOP",
    ]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * 3}{'--:|' * (len(head) - 3)}"
    for setting in settings:
        of_it = runs[setting.name]
        changes = ", ".join(f"`{k}={v}`" for k, v in of_it[0].changes.items())
        cells = [
            f"`{setting.name}`",
            changes if setting != group.base else "",
            _seeds(of_it),
            *(_text(_spread(of_it, column), column.form) for column in _COLUMNS),
            _signed(_difference(setting, group.base, runs, _BOUND), ".1f"),
            f"{of_it[0].parameters:,}",
            f"{of_it[0].image_gflop:.3f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _answer(setting, runs):
    """The question of a setting, and what its runs say."""
    base = setting.group.base
    nats, counts = (
        _difference(setting, base, runs, column) for column in (_BOUND, _COUNTS)
    )
    start = f"`{setting.name}`: {setting.question}"
    if all(result.measured is None for result in runs[setting.name]):
        return f"{start} **It diverged.**"
    if math.isnan(nats):
        return f"{start} Its base, `{base.name}`, has no figures to compare with."
    found = f"**−log p(x) {nats:+.1f} nats, counts {100 * counts:+.1f} points**"
    noise = [_spread(runs[base.name], column).deviation for column in (_BOUND, _COUNTS)]
    if math.isnan(noise[0]):
        return f"{start} {found}, against a single seed of `{base.name}`."
    return (
        f"{start} {found}, where the seeds of `{base.name}` deviate by"
        f" {noise[0]:.1f} nats and {100 * noise[1]:.1f} points."
    )


def _commands(settings, runs):
    """The commands of the first seed that was run, for all to copy."""
    lines = [runs[setting.name][0].command for setting in settings]
    return "\n".join(
        [
            "<details><summary>Commands; --config.seed gives other seeds</summary>\n",
            "```bash",
            *lines,
            "```\n",
            "</details>\n",
        ]
    )


def _spread(results, column):
    values = [column.value(x.measured) for x in results if x.measured is not None]
    if not values:
        return _Spread(math.nan, math.nan)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return _Spread(float(np.mean(values)), deviation)


def _difference(setting, base, runs, column):
    """Of the means; NaN for the base itself, and where one of them is not known."""
    if setting == base:
        return math.nan
    here, there = (_spread(runs.get(x.name, []), column) for x in (setting, base))
    return here.mean - there.mean


def _seeds(results):
    """Which seeds were run, and which of them diverged where."""
    return ", ".join(
        str(result.seed)
        if result.diverged_at is None
        else f"{result.seed}: diverged at step {result.diverged_at}"
        for result in results
    )


def _text(spread, form):
    if math.isnan(spread.mean):
        return "–"
    text = f"{spread.mean:{form}}"
    if math.isnan(spread.deviation):
        return text
    return f"{text} ± {spread.deviation:{form}}"


def _signed(value, form):
    return "–" if math.isnan(value) else f"{value:+{form}}"
