"""TensorBoard's event files: written in step with the run, whole after a kill."""

import pathlib
import struct
import time
from collections.abc import Iterator, Mapping

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

# A record is its length, a checksum of the length, the event, a checksum of the event.
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
_AROUND = _LENGTH.size + 2 * _CHECKSUM.size


class Events:
    """Writes the events of one start of a run, to a file of its own.

    TensorBoard shows nothing of what earlier starts have written of later steps. What a
    kill has cut off in their files is removed. Nothing is written in a thread: a disk
    that is full is an error here, and a kill does not touch what was `flush`ed.

    Args:
      folder: Where the files are; made when it does not exist.
      first_step: The step the run goes on from, 0 at the start.

    Raises:
      OSError: If the file system refuses; as do the methods.

    Attributes:
      path: The file.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        earlier = files(folder)
        for path in earlier:
            _cut_off(path)
        # Files are read in the order of their names, which begin with the second.
        suffix = f".{time.time_ns()}"
        self._writer = EventsWriter(str(folder / "events"), suffix)
        (self.path,) = set(files(folder)) - set(earlier)
        self._closed = False
        self._write(first_step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by their tags."""
        for tag, value in values.items():
            self._write(
                step, summary=Summary(value=[{"tag": tag, "simple_value": value}])
            )

    def picture(self, step: int, tag: str, png: bytes, size: tuple[int, int]) -> None:
        """Writes a PNG file of a (width, height)."""
        image = Summary.Image(
            width=size[0], height=size[1], colorspace=4, encoded_image_string=png
        )
        self._write(step, summary=Summary(value=[{"tag": tag, "image": image}]))

    def flush(self) -> None:
        """Hands what was written to the system."""
        self._writer.flush()

    def close(self) -> None:
        """Writes what is still in memory; the end of this start's file."""
        if not self._closed:
            self._closed = True
            self._writer.close()

    def _write(self, step, **content):
        event = Event(step=step, wall_time=time.time(), **content)
        self._writer.write_event(event)


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The event files of a folder, in the order in which TensorBoard reads them."""
    return sorted(folder.glob("events.out.tfevents.*"))


def read(path: pathlib.Path) -> Iterator[Event]:
    """Reads an event file.

    Raises:
      ValueError: If it is cut off or damaged.
    """
    content, start = path.read_bytes(), 0
    while start < len(content):
        end = _end(content[start : start + _LENGTH.size + _CHECKSUM.size], start)
        if end is None or end > len(content):
            raise ValueError(f"{path} is cut off or damaged after {start} bytes.")
        event = content[start + _AROUND - _CHECKSUM.size : end - _CHECKSUM.size]
        (checksum,) = _CHECKSUM.unpack(content[end - _CHECKSUM.size : end])
        if checksum != masked_crc32c(event):
            raise ValueError(f"{path} is damaged after {start} bytes.")
        yield Event.FromString(event)
        start = end


def _end(head, start):
    """Where a record ends that starts so, None where no record does."""
    if len(head) < _LENGTH.size + _CHECKSUM.size:
        return None
    length, checksum = head[: _LENGTH.size], head[_LENGTH.size :]
    if _CHECKSUM.unpack(checksum)[0] != masked_crc32c(length):
        return None
    return start + _AROUND + _LENGTH.unpack(length)[0]


def _cut_off(path):
    """Removes what follows the last whole record, of which the length alone is read."""
    size, whole = path.stat().st_size, 0
    with path.open("r+b") as file:
        while whole < size:
            file.seek(whole)
            end = _end(file.read(_LENGTH.size + _CHECKSUM.size), whole)
            if end is None or end > size:
                file.truncate(whole)
                break
            whole = end
