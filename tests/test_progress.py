"""A run's reports are complete and right, and hold nothing twice."""

import json
import struct
from typing import NamedTuple

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments.run import progress


class _Terms(NamedTuple):
    elbo: float
    tau: float


@pytest.fixture
def report(tmp_path):
    """Makes reporters of one run; what they print is in `report.lines`.

    Time passes only when a test says so, in `report.seconds`.
    """
    made = []

    def make(first_step=0):
        said, clock = make.lines.append, lambda: make.seconds
        made.append(
            progress.Progress(tmp_path, 1000, 32, first_step, None, said, clock)
        )
        return made[-1]

    make.lines, make.seconds = [], 100.0
    yield make
    for reporter in made:
        reporter.close()


def _rows(tmp_path):
    text = (tmp_path / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _events(folder):
    """Yields the events of all files in a folder, in the order in which they are read.

    A record is its length, a checksum of that, the event, and a checksum of it.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while len(content) >= 12:
            (length,) = struct.unpack("<Q", content[:8])
            if len(content) < length + 16:
                break  # a kill has cut it off
            yield Event.FromString(content[12 : 12 + length])
            content = content[length + 16 :]


def _shown(folder):
    """Returns the values by step and tag, as TensorBoard shows them.

    The start of a run hides what earlier ones have written from its first step on.
    """
    values = {}
    for event in _events(folder):
        if event.session_log.status == SessionLog.START:
            values = {key: v for key, v in values.items() if key[0] < event.step}
        for value in event.summary.value:
            values[event.step, value.tag] = value
    return values


def test_the_table_and_tensorboard(tmp_path, report):
    """The table and TensorBoard hold every metric under its name, part and step."""
    reporter = report()
    report.seconds += 10
    reporter.train(50, _Terms(-120.5, np.float32(0.5)))
    reporter.held_out(50, _Terms(-130.0, 0.25))
    reporter.close()
    speed = {"steps_per_second": 5.0, "images_per_second": 160.0}
    assert _rows(tmp_path) == [
        {"step": 50, "part": "train", "elbo": -120.5, "tau": 0.5, **speed},
        {"step": 50, "part": "held_out", "elbo": -130.0, "tau": 0.25},
    ]
    shown = _shown(tmp_path / "tensorboard")
    assert sorted((*key, value.simple_value) for key, value in shown.items()) == [
        (50, "held_out/elbo", -130.0),
        (50, "held_out/tau", 0.25),
        (50, "train/elbo", -120.5),
        (50, "train/images_per_second", 160.0),
        (50, "train/steps_per_second", 5.0),
        (50, "train/tau", 0.5),
    ]


def test_a_resumed_run_takes_back_what_came_later(tmp_path, report):
    """Rows after the checkpoint and damaged lines are removed; other rows stay."""
    reporter = report()
    for step in (50, 100, 150):
        reporter.train(step, _Terms(-step, 0))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": "7"}\n[7]\n{"step": 160, "par')
    reporter = report(first_step=100)
    reporter.train(150, _Terms(-7, 0))
    assert [(row["step"], row["elbo"]) for row in _rows(tmp_path)] == [
        (50, -50.0),
        (100, -100.0),
        (150, -7.0),
    ]


def test_tensorboard_shows_each_step_once(tmp_path, report):
    """A start hides the later steps that earlier starts wrote, also after a kill."""
    for first_step, value in ((0, 1), (100, 2), (40, 3)):
        reporter = report(first_step)
        for step in (50, 150):
            if step > first_step:
                reporter.train(step, _Terms(value, 0))
        reporter.flush()
    newest = max((tmp_path / "tensorboard").iterdir())
    newest.write_bytes(newest.read_bytes()[:-30])  # a kill has cut off speed
    report(160)
    shown = _shown(tmp_path / "tensorboard")
    elbo = [(key[0], v.simple_value) for key, v in shown.items() if "elbo" in key[1]]
    assert elbo == [(50, 3.0), (150, 3.0)]
