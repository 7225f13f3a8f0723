"""Events: what TensorBoard shows of a run, in its own format.

TensorBoard's writer has a thread, which prints a traceback where the disk is full and holds a lock that Ctrl-C can
leave locked; here an epoch is appended by whoever records it.
"""

from __future__ import annotations

import io
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from common.room import naming

VERSION = "brain.Event:2"  # of the format


class Events:
    """The file of one process in a run's `folder`; what others recorded from the epoch `first` on is hidden by it."""

    def __init__(self, folder: Path, first: int):
        # Files are read in the order of their names, which begin with the time.
        self.path = folder / f"events.out.tfevents.{time.time():017.6f}.{platform.node()}.{os.getpid()}"
        start = SessionLog(status=SessionLog.START)
        self._append(Event(file_version=VERSION), Event(step=first, session_log=start))

    def record(self, epoch: int, scalars: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._append(*(Event(step=epoch, summary=Summary(value=[value])) for value in values))

    def _append(self, *events: Event) -> None:
        content = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            RecordWriter(content).write(event.SerializeToString())
        with naming(self.path), self.path.open("ab") as file:
            file.write(content.getvalue())
