"""Where a thread leaves the newest frame for another one to take."""

from __future__ import annotations

import threading
import time

from edgead.errors import CameraError
from edgead.types import Frame


class Slot:
    """Holds at most one frame, the newest, and at most one fault; they are taken in the order of their arrival.

    A frame replaces one that nobody took. A fault is never replaced: each must reach whoever gives verdicts.
    """

    def __init__(self) -> None:
        self._entries: list[Frame | CameraError] = []
        self._condition = threading.Condition()
        self._closed = False

    def put(self, frame: Frame) -> bool:
        """Leave a frame; True when it replaced one that nobody took."""
        with self._condition:
            kept = [entry for entry in self._entries if not isinstance(entry, Frame)]
            replaced = len(kept) < len(self._entries)
            self._entries = [*kept, frame]
            self._condition.notify_all()
            return replaced

    def leave(self, frame: Frame) -> None:
        """Leave a frame that none replaces; waits until it was taken, or the slot is closed."""
        with self._condition:
            self._entries.append(frame)
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._closed or all(entry is not frame for entry in self._entries))

    def report(self, fault: CameraError) -> None:
        """Leave a fault; waits until the one before it was taken, or the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or all(isinstance(entry, Frame) for entry in self._entries))
            self._entries.append(fault)
            self._condition.notify_all()

    def mention(self, fault: CameraError) -> None:
        """Leave a fault unless one waits already."""
        with self._condition:
            if all(isinstance(entry, Frame) for entry in self._entries):
                self._entries.append(fault)
                self._condition.notify_all()

    def take(self, wait_s: float) -> Frame | CameraError | None:
        """The oldest entry, or None when there is none within `wait_s` seconds of real time or the slot is closed and empty."""
        end = time.monotonic() + wait_s
        with self._condition:
            while not self._entries and not self._closed:
                remaining = end - time.monotonic()
                if remaining <= 0:
                    return None
                self._condition.wait(remaining)
            if not self._entries:
                return None
            self._condition.notify_all()
            return self._entries.pop(0)

    def close(self) -> None:
        """Let everybody go who waits; what is inside can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
