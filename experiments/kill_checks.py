"""Whether two runs have come to the same end, bit by bit, with every file whole."""

import collections
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments import events, progress
from lavae_jax import released, runs

_SPEEDS = ("steps_per_second", "images_per_second")


def problems(unbroken: str | pathlib.Path, other: str | pathlib.Path) -> list[str]:
    """What another run has that an unbroken one has not, and what is not whole.

    Args:
      unbroken: The workdir of a run that has ended.
      other: That of a run of the same config.

    Returns:
      One line per difference; none for the same end.
    """
    unbroken, other = pathlib.Path(unbroken), pathlib.Path(other)
    return [
        f"  {line}"
        for check in (_checkpoints, _table, _events, _pictures, _leftovers)
        for line in check(unbroken, other)
    ]


def _checkpoints(unbroken, other) -> Iterator[str]:
    ends = [runs.checkpoint_steps(workdir)[-1:] for workdir in (unbroken, other)]
    if ends[0] != ends[1] or not ends[0]:
        yield f"the last checkpoint is of step {ends[1]}, not {ends[0]}"
        return
    folders = [
        runs.checkpoint_folder(workdir) / str(ends[0][0])
        for workdir in (unbroken, other)
    ]
    for folder in folders:
        if not (folder / released.CHECKSUMS).exists():
            yield f"{folder} has no checksums"
        try:
            released.check_folder(folder)
        except ValueError as error:
            yield f"{folder}: {error}"
            return
    states = [_state(folder) for folder in folders]
    for name in sorted(states[0].keys() | states[1].keys()):
        if states[0].get(name) != states[1].get(name):
            yield f"{name} of the last checkpoint is another"


def _state(folder) -> dict[str, Any]:
    """Everything in a checkpoint, each array as its type, shape and bytes."""
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(folder / "state")
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        position = checkpointer.restore(folder / "data", args=ocp.args.JsonRestore())
    return {
        "the position in the data": position,
        **{
            jax.tree_util.keystr(path): (str(x.dtype), x.shape, x.tobytes())
            for path, x in jax.tree.leaves_with_path(state)
        },
    }


def _table(unbroken, other) -> Iterator[str]:
    rows = []
    for path in map(progress.table, (unbroken, other)):
        try:
            # Strictly, other than a run that goes on reads them.
            rows.append([json.loads(line) for line in path.read_text().splitlines()])
        except (ValueError, OSError) as error:
            yield f"{path} is not whole: {error}"
            return
    for row in (row for part in rows for row in part):
        for speed in _SPEEDS:
            row.pop(speed, None)
    if rows[0] != rows[1]:
        known = [json.dumps(row) for row in rows[0]]
        wrong = [json.dumps(row) for row in rows[1] if json.dumps(row) not in known]
        yield (
            f"metrics.jsonl has {len(rows[1])} rows, not {len(rows[0])}; other ones are"
            f" {', '.join(wrong) or 'none'}"
        )


def _events(unbroken, other) -> Iterator[str]:
    shown = []
    for workdir in (unbroken, other):
        try:
            shown.append(_shown(workdir / "tensorboard"))
        except ValueError as error:
            yield str(error)
            return
    for name in sorted(shown[0].keys() | shown[1].keys()):
        if shown[0][name] != shown[1][name]:
            step, tag = name
            times = len(shown[1][name])
            yield f"TensorBoard has another {tag} of step {step}, or {times} of them"


def _shown(folder) -> dict[tuple[int, str], list[bytes]]:
    """What TensorBoard shows, by step and tag: a start hides what came after it."""
    shown = collections.defaultdict(list)
    for path in events.files(folder):
        for event in events.read(path):
            if event.HasField("session_log"):
                for name in [name for name in shown if name[0] >= event.step]:
                    del shown[name]
            for value in event.summary.value:
                if value.tag.rpartition("/")[2] not in _SPEEDS:
                    shown[event.step, value.tag].append(value.SerializeToString())
    return shown


def _pictures(unbroken, other) -> Iterator[str]:
    names = [
        {path.name for path in (workdir / "pictures").glob("*.png")}
        for workdir in (unbroken, other)
    ]
    if names[0] != names[1]:
        yield f"the pictures are {sorted(names[1])}, not {sorted(names[0])}"
    for name in sorted(names[0] & names[1]):
        here, there = (workdir / "pictures" / name for workdir in (other, unbroken))
        if here.read_bytes() != there.read_bytes():
            yield f"the picture {name} is another"


def _leftovers(unbroken, other) -> Iterator[str]:
    for path in sorted(other.rglob("*")):
        if "unfinished" in path.name or "orbax-checkpoint-tmp" in path.name:
            yield f"{path} is left over"
    if (other / "damaged_checkpoints").exists():
        yield "a checkpoint was found damaged"
