"""Processes find each other, and an error of one is an error of all."""

import ast

import numpy as np
import pytest

from experiments import cli
from experiments.run import processes
from tests.joined_processes import finished

_SCRIPT = """
import os, pathlib, sys
import numpy as np

address, num, index, devices, path = sys.argv[1:]
index = int(index)
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"

from experiments import cli
from experiments.run import processes

seen = []
try:
    processes.join(None, address, int(num), index)
    seen.append(processes.together(lambda: index))
    seen.append(processes.on_first(lambda: "written"))
    seen.append(processes.broadcast_json({"step": 7, "by": index}))
    arrays = [np.array([[-0.0, np.nan]], np.float32), np.array(index, bool)]
    received = processes.broadcast_arrays(arrays, arrays)
    seen.append([(x.tobytes().hex(), x.shape, x.dtype.name) for x in received])
    processes.check_same(("images", 3), "nothing is wrong")
    try:
        processes.check_same(index, "other images")
    except cli.UserError as error:
        seen.append(str(error))

    def work():
        if index == 1:
            raise cli.UserError("no ∅ data here")
        return "data"

    def fail():
        if index == 1:
            raise OSError
        return "data"

    try:
        processes.together(fail)
    except cli.UserError as error:
        seen.append(str(error))
    processes.together(work)
except cli.UserError as error:
    seen.append(str(error))
pathlib.Path(path).write_text(repr(seen))
"""


def _run(folder, devices=(2, 2)):
    """Returns what each process has seen, from files: Gloo writes between prints."""
    num = len(devices)
    paths = [folder / f"{index}.seen" for index in range(num)]

    def arguments(address, index):
        return ["-c", _SCRIPT, address, num, index, devices[index], paths[index]]

    finished(arguments, folder, num)
    return [ast.literal_eval(path.read_text()) for path in paths]


def test_two_processes_act_as_one(tmp_path):
    """Both processes get the first's results, and an error of one is raised in both.

    A difference between them, such as in the images they see, is such an error.
    """
    first, second = _run(tmp_path)
    values = np.array([-0.0, np.nan], np.float32).tobytes().hex()
    arrays = [(values, (1, 2), "float32"), ("00", (), "bool")]
    shared = [{"step": 7, "by": 0}, arrays, "process 1: other images"]
    shared += ["process 1: OSError()", "process 1: no ∅ data here"]
    assert first == [0, "written", *shared]
    assert second == [1, None, *shared]


def test_uneven_devices_are_refused(tmp_path):
    """Uneven devices are refused, as each process takes the same share of a batch."""
    seen = _run(tmp_path, devices=(1, 2))
    for k, (message,) in enumerate(seen):
        assert f"process {k} of 2 has {k + 1} of 3" in message


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("host:1", None, None), "--num_processes"),
        (("host", 2, 0), "takes HOST:PORT: got 'host'"),
        (("host:1", 2, 2), "from 0 to 1, for --num_processes=2: got 2"),
    ],
)
def test_names_that_name_no_process(names, message):
    """Wrong names are refused at once; JAX would wait for the others for minutes."""
    with pytest.raises(cli.UserError, match=message):
        processes.join(None, *names)
