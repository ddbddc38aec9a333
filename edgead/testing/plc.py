"""Public stand-ins for the line's side: a PLC that follows docs/handshake.md, and a GPIO chip. Standard library only.

:class:`FakePlc` is the Structured Text sample of deploy/plc in Python: both follow the same steps in the same order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgead.clock import Clock, MonotonicClock
from edgead.errors import OutputError
from edgead.runtime.outputs.gpio import Edge
from edgead.runtime.plc.signals import FromPlc, ToPlc
from edgead.types import Verdict


@dataclass(frozen=True, slots=True)
class PlcVerdict:
    """What the PLC did with one part. `by` is "station", or the PLC's own reason to reject it without a result.

    Those reasons: "no_ack" (the trigger was not taken in time), "no_result" (there was no result), "station_restarted", "reset".
    """

    part_id: int
    verdict: Verdict
    cause: int
    by: str
    at_ns: int
    score: float = 0.0


class FakePlc:
    """A PLC's program: call `scan` with what the station's block says, and give the station the answer.

    Args:
        in_flight: triggers that it has open at a time.
        ack_timeout_s, result_timeout_s: then it rejects the part by itself.
        rude: triggers even when the station is not ready.
        free_running: takes every result, without triggers.
        numbered: counts its parts; False: they are all number 0, and one at a time.
        start_id: the first part is the next number.

    Attributes:
        wanted: parts that stand in front of the camera and wait for a trigger.
        verdicts: of each part, in the order in which they came.
        ignored: part ids of results for parts that it did not wait for.
        errors: error codes, each as it came up.
        acknowledging: False stops taking results.
        beating: False stops its heartbeat.
    """

    def __init__(
        self,
        *,
        in_flight: int = 1,
        ack_timeout_s: float = 2.0,
        result_timeout_s: float = 4.0,
        rude: bool = False,
        free_running: bool = False,
        numbered: bool = True,
        start_id: int = 0,
    ) -> None:
        self.wanted = 0
        self.verdicts: list[PlcVerdict] = []
        self.ignored: list[int] = []
        self.errors: list[int] = []
        self.acknowledging = self.beating = self.enabled = True
        self.recipe = 0
        self._step = int(numbered)
        self._in_flight, self._rude, self._free_running = in_flight, rude, free_running
        self._ack_timeout_ns, self._result_timeout_ns = int(ack_timeout_s * 1e9), int(result_timeout_s * 1e9)
        self._open: deque[tuple[int, int]] = deque()  # part id and when its trigger was taken
        self._given_up: list[int] = []
        self._boot = self._beat = 0
        self._reset = True  # at its start-up, until the station has forgotten what was before
        self._trigger, self._part_id, self._trigger_ns = False, start_id, 0
        self._result_ack, self._result_ack_part_id = False, 0
        self._error_ack = False

    @property
    def settled(self) -> bool:
        """Every wanted part has its verdict."""
        return not (self.wanted or self._open or self._trigger)

    def restart(self) -> None:
        """Ask the station to forget everything, as at start-up; open parts are rejected."""
        self._reset = True
        self._given_up = [part_id for part_id, _ in self._open] + [self._part_id] * self._trigger
        self._open.clear()
        self._trigger = self._result_ack = False

    def scan(self, station: ToPlc, now_ns: int) -> FromPlc:
        """One cycle of the program."""
        self._beat = (self._beat + self.beating) & 0xFFFF
        if self._reset:
            for part_id in self._given_up:
                self._reject(part_id, "reset", now_ns)
            self._given_up.clear()
            self._reset = not station.reset_done
        else:
            self._watch(station, now_ns)
            self._drive_trigger(station, now_ns)
            self._take_result(station, now_ns)
        if station.error and not self._error_ack:
            self.errors.append(station.error_code)
        self._error_ack = station.error
        return FromPlc(
            enable=self.enabled and not self._reset,
            trigger=self._trigger,
            result_ack=self._result_ack,
            error_ack=self._error_ack,
            reset=self._reset,
            heartbeat=self._beat,
            part_id=self._part_id,
            result_ack_part_id=self._result_ack_part_id,
            recipe=self.recipe,
        )

    def _watch(self, station: ToPlc, now_ns: int) -> None:
        """Reject what will never be answered."""
        if station.boot != self._boot:
            while self._open:
                self._reject(self._open.popleft()[0], "station_restarted", now_ns)
            self._boot = station.boot
        while self._open and now_ns - self._open[0][1] > self._result_timeout_ns:
            self._reject(self._open.popleft()[0], "no_result", now_ns)

    def _drive_trigger(self, station: ToPlc, now_ns: int) -> None:
        if self._trigger:
            if station.trigger_ack and station.trigger_part_id == self._part_id:
                self._trigger = False
                self._open.append((self._part_id, now_ns))
            elif now_ns - self._trigger_ns > self._ack_timeout_ns:
                self._trigger = False
                self._reject(self._part_id, "no_ack", now_ns)
        elif self.wanted and not station.trigger_ack and len(self._open) < self._in_flight and (station.ready or self._rude):
            self.wanted -= 1
            self._part_id = (self._part_id + self._step) & 0xFFFFFFFF
            self._trigger, self._trigger_ns = True, now_ns

    def _take_result(self, station: ToPlc, now_ns: int) -> None:
        if not station.result_valid:
            self._result_ack = False
            return
        if not self.acknowledging or (self._result_ack and self._result_ack_part_id == station.result_part_id):
            return
        if self._free_running or (self._open and self._open[0][0] == station.result_part_id):
            if self._open:
                self._open.popleft()
            verdict = Verdict.OK if station.ok and not (station.ng or station.unknown) else Verdict.NG
            verdict = Verdict.UNKNOWN if station.unknown else verdict
            self.verdicts.append(
                PlcVerdict(station.result_part_id, verdict, station.cause, "station", now_ns, station.score),
            )
        else:
            self.ignored.append(station.result_part_id)
        self._result_ack, self._result_ack_part_id = True, station.result_part_id

    def _reject(self, part_id: int, why: str, now_ns: int) -> None:
        self.verdicts.append(PlcVerdict(part_id, Verdict.UNKNOWN, 0, why, now_ns))


class FakePlcLink:
    """A link to a :class:`FakePlc` in this process: each exchange is one scan.

    Attributes:
        faults: raised by the next exchanges, in order; None lets one through.
    """

    def __init__(self, plc: FakePlc, clock: Clock | None = None) -> None:
        self.plc = plc
        self.faults: deque[Exception | None] = deque()
        self.closed = False
        self.shown: list[ToPlc] = []
        self._clock = clock or MonotonicClock()

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        if self.closed:
            raise OutputError("the fake PLC link is closed")
        fault = self.faults.popleft() if self.faults else None
        if fault is not None:
            raise fault
        if not self.shown or self.shown[-1] != to_plc:
            self.shown.append(to_plc)
        return self.plc.scan(to_plc, self._clock.now_ns())

    def close(self) -> None:
        self.closed = True


class FakeChip:
    """A GPIO chip of :class:`edgead.runtime.outputs.gpio.Chip`'s kind.

    Attributes:
        levels: the electrical level of each line that was ever taken as an output.
        history: (line, level) of each change, in order.
        held: lines that are taken now.
        broken: True makes setting and waiting fail.
    """

    def __init__(self) -> None:
        self.levels: dict[int, bool] = {}
        self.history: list[tuple[int, bool]] = []
        self.held: set[int] = set()
        self.broken = False
        self._edges: deque[tuple[int, int]] = deque()
        self._numbers = 0
        self._came = threading.Condition()

    def edge(self, at_ns: int, *, lost: bool = False) -> None:
        """The input sees an edge; a lost one is counted by the kernel and not kept."""
        with self._came:
            self._numbers += 1
            if not lost:
                self._edges.append((at_ns, self._numbers))
                self._came.notify_all()

    def outputs(self, values: Mapping[int, bool], *, active_low: bool) -> _FakeLines:
        self._take(values)
        lines = _FakeLines(self, values, active_low=active_low)
        lines.set(values)
        return lines

    def edges(self, line: int, *, rising: bool, debounce_s: float) -> _FakeLines:
        self._take((line,))
        return _FakeLines(self, (line,), active_low=not rising)

    def _take(self, lines: Iterable[int]) -> None:
        if self.held & set(lines):
            raise OutputError(f"lines {sorted(self.held & set(lines))} of the fake chip are held already")
        self.held |= set(lines)


class _FakeLines:
    """Lines of a FakeChip, in or out."""

    def __init__(self, chip: FakeChip, lines: Iterable[int], *, active_low: bool) -> None:
        self._chip, self._held, self._active_low = chip, set(lines), active_low

    def set(self, values: Mapping[int, bool]) -> None:
        if self._chip.broken or not self._held:
            raise OutputError("the fake lines cannot be set")
        for line, value in values.items():
            self._chip.levels[line] = value != self._active_low
            self._chip.history.append((line, self._chip.levels[line]))

    def wait(self, timeout_s: float) -> list[Edge]:
        chip = self._chip
        with chip._came:
            chip._came.wait_for(lambda: chip._edges or chip.broken or not self._held, timeout_s)
            if chip.broken or not self._held:
                raise OutputError("the fake input cannot be read")
            found = [Edge(at_ns, number) for at_ns, number in chip._edges]
            chip._edges.clear()
            return found

    def close(self) -> None:
        with self._chip._came:
            self._chip.held -= self._held
            self._held = set()
            self._chip._came.notify_all()
