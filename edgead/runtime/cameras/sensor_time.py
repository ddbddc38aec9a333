"""The clock in a GenICam camera (SFNC 2.7, "TimestampLatch"; before 2.0 "GevTimestampControlLatch"), mapped to ours."""

from __future__ import annotations

import logging

from edgead.clock import Clock
from edgead.errors import CameraError
from edgead.runtime.cameras.genicam import Nodes
from edgead.runtime.cameras.timing import ClockMap

TIE_S = 5.0
"""How often both clocks are read together: at the drift that is allowed for, they are 5 ms apart by then."""
BUSY_S = 1.0
"""They are read only when a picture came so recently: a camera that does not answer would hold everything up."""
WRONG_S = 5.0
"""No transport of these cameras holds pictures for so long: a clock that says so, for twice as long, is none."""

_LATCHES = (("TimestampLatch", "TimestampLatchValue"), ("GevTimestampControlLatch", "GevTimestampValue"))

_log = logging.getLogger("edgead.camera")


class SensorTime:
    """When a picture was made, by the camera's own clock.

    Where the camera lets its clock be read (a latch), both are read together now and then: the times are those of the light, as
    the camera stamps it. Where not, they are later by the smallest delay from light to arrival. A clock that proves to be none
    is told of once and not used any more.

    Args:
        nodes: the camera's features.
        name: of the camera, for the log.
        clock: ours.
    """

    def __init__(self, nodes: Nodes, name: str, clock: Clock) -> None:
        self._nodes, self._name, self._clock = nodes, name, clock
        self._map = ClockMap()
        self._begun_ns = clock.now_ns()
        self._latch = next((pair for pair in _LATCHES if [nodes.kind(n) for n in pair] == ["command", "integer"]), None)
        self._tick_ns = tick_ns(nodes) if self._latch == _LATCHES[1] else 1.0
        self._tied_ns: int | None = None
        self._last_ns = 0  # what was told last
        self._arrived_ns = 0
        self._wrong_since_ns: int | None = None
        self._usable = True
        self.tie(now=True)

    def made(self, arrived_ns: int, sensor_ns: int) -> int | None:
        """When the picture was made, never before the one before; None: the camera's clock is of no use."""
        if not self._usable:
            return None
        self._arrived_ns = arrived_ns
        made_ns = self._map.stamp(arrived_ns, sensor_ns)
        if made_ns < self._begun_ns and self._tied_ns is not None:  # before it was begun: pictures have another clock
            self._latch, self._tied_ns, self._map = None, None, ClockMap()
            made_ns = self._map.stamp(arrived_ns, sensor_ns)
        self._judge(arrived_ns, arrived_ns - made_ns)
        self._last_ns = max(self._last_ns, made_ns)
        return self._last_ns if self._usable else None

    def tie(self, *, now: bool = False) -> None:
        """Read both clocks together, if it is time for it."""
        now_ns = self._clock.now_ns()
        due = self._tied_ns is None or now_ns - self._tied_ns > TIE_S * 1e9
        if self._latch is None or not (now or (due and now_ns - self._arrived_ns < BUSY_S * 1e9)):
            return
        command, value = self._latch
        try:
            asked_ns = self._clock.now_ns()
            self._nodes.execute(command)
            at_ns = self._clock.now_ns()
            self._map.tie(asked_ns, at_ns, round(int(self._nodes.get(value)) * self._tick_ns))
        except CameraError as error:
            _log.warning("camera %s: its clock cannot be read (%s): times are later by the smallest delay", self._name, error)
            self._latch = None
        else:
            self._tied_ns = at_ns

    def _judge(self, arrived_ns: int, age_ns: int) -> None:
        if age_ns < WRONG_S * 1e9:
            self._wrong_since_ns = None
            return
        self._wrong_since_ns = arrived_ns if self._wrong_since_ns is None else self._wrong_since_ns
        if arrived_ns - self._wrong_since_ns > 2 * WRONG_S * 1e9:
            self._usable = False
            _log.warning("camera %s: its clock is of no use (pictures seem to be %.0f s old)", self._name, age_ns / 1e9)


def tick_ns(nodes: Nodes) -> float:
    """Nanoseconds of one tick of the camera's time stamps; 1 where it does not tell."""
    name = "GevTimestampTickFrequency"
    rate = int(nodes.get(name)) if nodes.kind(name) == "integer" else 0
    return 1e9 / rate if rate > 0 else 1.0
