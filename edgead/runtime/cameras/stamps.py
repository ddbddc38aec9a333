"""What OpenCV tells of when a picture was made, for each of its sources; the sums are :mod:`edgead.runtime.cameras.timing`'s."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np

from edgead.runtime.cameras.timing import MS, ClockMap, Pace

TRIED = 32
CREEPS = 0.2
"""A sender whose time advances by less than this share of ours, in most of so many first intervals, has no clock."""
SAME_CLOCK_NS = 10_000 * MS
"""A driver's first time stamp that is younger than this, and not ahead of ours, is of our own clock."""


_log = logging.getLogger("edgead.camera")


class Stamps(Protocol):
    """Stamps the pictures of one source, all of them, in their order.

    Attributes:
        time_source: what the stamps mean; see :class:`edgead.types.Camera`.
    """

    time_source: str

    def stamp(self, arrived_ns: int) -> int | None:
        """When the picture that was read last was made, monotonic ns; None: nobody knows, it may be old."""


class Arrival:
    """The source tells no time: a picture is made as it arrives, unless it may have been held up.

    Args:
        fresh: the source began with us.
    """

    time_source = "arrival"

    def __init__(self, *, fresh: bool) -> None:
        self._pace = Pace(fresh=fresh)

    def stamp(self, arrived_ns: int) -> int | None:
        return arrived_ns if self._pace.arrived(arrived_ns) else None


class Sender:
    """Pictures with the time of whoever sends them (RTP), from an arbitrary start.

    Args:
        read: that of the picture that was read last, ns; None: it has none, and it is :class:`Arrival` from then on.
    """

    time_source = "sender"

    def __init__(self, read: Callable[[], int | None]) -> None:
        self._read, self._map = read, ClockMap()
        self._arrival: Arrival | None = None
        self._first: list[tuple[int, int]] = []  # pictures: arrival and the sender's time

    def stamp(self, arrived_ns: int) -> int | None:
        source_ns = self._read() if self._arrival is None else None
        if source_ns is None or self._is_none(arrived_ns, source_ns):
            self._arrival, self.time_source = self._arrival or Arrival(fresh=False), Arrival.time_source
            return self._arrival.stamp(arrived_ns)
        made_ns = self._map.stamp(arrived_ns, source_ns)
        return made_ns if self._map.settled else None

    def _is_none(self, arrived_ns: int, source_ns: int) -> bool:
        """Does the sender's time stand still, or creep? Some cameras' does; no network makes most intervals that much longer."""
        if len(self._first) == TRIED:
            return False
        self._first.append((arrived_ns, source_ns))
        if len(self._first) < TRIED:
            return False
        gaps_ns, steps_ns = (np.median(np.diff(times)) for times in zip(*self._first, strict=True))
        if creeps := bool(steps_ns < CREEPS * gaps_ns):
            _log.warning("the stream's own time stamps are of no use: its pictures are stamped as they arrive")
        return creeps


class Driver:
    """Pictures stamped by the kernel's driver, usually by the clock that is ours, too.

    Args:
        read: the stamp of the picture that was read last, ns; 0: there is none.
    """

    time_source = "driver"

    def __init__(self, read: Callable[[], int]) -> None:
        self._read, self._map = read, ClockMap()
        self._arrival = Arrival(fresh=True)
        self._same: bool | None = None  # is it our clock? None: not known yet

    def stamp(self, arrived_ns: int) -> int | None:
        source_ns = self._read()
        if source_ns <= 0:
            self.time_source = Arrival.time_source
            return self._arrival.stamp(arrived_ns)
        if self._same is None:
            self._same = 0 <= arrived_ns - source_ns < SAME_CLOCK_NS
        if self._same:
            return min(source_ns, arrived_ns)
        made_ns = self._map.stamp(arrived_ns, source_ns)
        return made_ns if self._map.settled else None


def stamps_of(capture: Any, address: str) -> Stamps:
    """What an open ``cv2.VideoCapture`` can tell.

    - RTSP through FFmpeg: the presentation time, made from RTP's.
    - V4L2: the buffer's time stamp.
    - HTTP (FFmpeg makes times up from the picture's number), GStreamer (OpenCV's is unreliable, its issue 19025): arrival only.
    """
    if address.lower().startswith(("rtsp://", "rtsps://")):
        return Sender(lambda: _presentation_ns(capture))
    if "://" in address or address.startswith("gst:"):
        return Arrival(fresh=False)
    if capture.getBackendName() == "V4L2":
        return Driver(lambda: round(capture.get(cv2.CAP_PROP_POS_MSEC) * MS))
    return Arrival(fresh=True)


def _presentation_ns(capture: Any) -> int | None:
    """OpenCV makes a position up where FFmpeg knows no time; those that have CAP_PROP_PTS tell."""
    if (number := getattr(cv2, "CAP_PROP_PTS", None)) is not None and capture.get(number) < -(2**62):
        return None
    return round(float(capture.get(cv2.CAP_PROP_POS_MSEC)) * MS)
