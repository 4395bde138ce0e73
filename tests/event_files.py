"""What TensorBoard reads of a run."""

import struct

from tensorboardX.proto.event_pb2 import Event, SessionLog


def events(folder):
    """The events of all files in a folder, in the order in which they are read.

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


def shown(folder):
    """The values by step and tag, as TensorBoard shows them.

    The start of a run hides what earlier ones have written from its first step on.
    """
    values = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            values = {key: v for key, v in values.items() if key[0] < event.step}
        for value in event.summary.value:
            values[event.step, value.tag] = value
    return values
