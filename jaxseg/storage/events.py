"""TensorBoard events, written where they are logged.

tensorboardX's own writer hands events to a thread. Where the disk is full that thread dies with a
traceback, and the program waits for ever to hand over the next event. Here the error is raised in
the caller.
"""

import os
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class Events:
    """An events file in a folder, which is created if it does not exist.

    Args:
      folder: TensorBoard reads all events files in it.
      purge_step: what earlier files say of this step and later ones is ignored by TensorBoard.
    """

    def __init__(self, folder: str | Path, purge_step: int) -> None:
        os.makedirs(folder, exist_ok=True)
        self._writer = EventsWriter(os.path.join(folder, "events"))
        version = Event(step=purge_step, file_version="brain.Event:2")
        began = Event(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        for event in (version, began):
            self._writer.write_event(event)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a number; it is written with the next `flush`."""
        self.add(summary.scalar(name, value), step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Adds a picture, uint8 [H,W,3]."""
        self.add(summary.image(name, image, dataformats="HWC"), step)

    def add(self, found: Summary, step: int) -> None:
        """Adds a summary of tensorboardX."""
        event = Event(summary=found, step=int(step), wall_time=time.time())
        self._writer.write_event(event)

    def flush(self) -> None:
        """Writes what was added to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Writes what was added, and closes the file."""
        self._writer.close()
