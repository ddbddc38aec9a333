"""Lines of this box: a trigger in, and pass, reject, kick, ready, busy, heartbeat and a tower light out.

The only file that knows gpiod (libgpiod 2.x, the kernel's GPIO character device). Everything else works on the small
:class:`Chip` protocol, which :class:`edgead.testing.plc.FakeChip` has too. Electrically: docs/handshake.md.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from edgead.claims import Claim, gpio_line
from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, OutputError
from edgead.optional import require
from edgead.runtime import LOOP_TIMEOUT_S
from edgead.runtime.threads import Supervised
from edgead.settings import DeviceSettings, Line, Positive
from edgead.types import Inspection, Trigger, Verdict

if TYPE_CHECKING:
    from gpiod import LineRequest, LineSettings

    from edgead.located import Place

GPIO_LINES = ("ok", "reject", "kick", "ready", "busy", "heartbeat", "green", "yellow", "red")

BEAT_S = 0.25
"""The heartbeat line changes its level so often: a square wave of 2 Hz."""

GAP_S = 0.005
"""Between two pulses of one line, so that they can be told apart."""

JOIN_S = 5.0

_log = logging.getLogger("edgead.gpio")


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge of an input: when (monotonic ns, by the kernel) and its number, from 1; a gap in numbers is lost edges."""

    at_ns: int
    number: int


class OutputLines(Protocol):
    """Output lines that are held; True is asserted, whatever level that is."""

    def set(self, values: Mapping[int, bool]) -> None:
        """Raises OutputError."""

    def close(self) -> None:
        """Release them; may be called twice."""


class EdgeLine(Protocol):
    """One input line whose edges the kernel records."""

    def wait(self, timeout_s: float) -> Sequence[Edge]:
        """Edges that came, oldest first; none after `timeout_s`. Raises OutputError."""

    def close(self) -> None:
        """Release it; may be called twice."""


class Chip(Protocol):
    """A GPIO controller; lines are numbers on it."""

    def outputs(self, values: Mapping[int, bool], *, active_low: bool) -> OutputLines:
        """Take lines as outputs, with these values from the first moment. Raises OutputError."""

    def edges(self, line: int, *, rising: bool, debounce_s: float) -> EdgeLine:
        """Take a line as an input. Raises OutputError."""


class GpioTrigger:
    """Each edge of an input line is one trigger, stamped by the kernel; it may come before this process learns of it.

    Edges that the kernel could not keep (its buffer was full) still get their triggers, refused as "trigger_lost".

    Args:
        chip: a path such as ``/dev/gpiochip0``, or a chip.
        line: the input's number on it.
        active: which edge.
        debounce_s: the line must be quiet for so long before an edge counts; done by the kernel.
        name: source of the triggers.

    Raises:
        OutputError: the line cannot be taken. MissingExtra: gpiod is not installed. BadInput: the numbers make no sense.
    """

    def __init__(
        self,
        chip: str | Chip,
        line: int,
        *,
        active: Literal["rising", "falling"],
        debounce_s: float,
        name: str = "gpio",
    ) -> None:
        if line < 0 or not debounce_s >= 0 or active not in ("rising", "falling"):
            raise BadInput(f"no trigger from {active!r} edges of GPIO line {line} with {debounce_s} s debounce")
        self.name = name
        self._edges = _opened(chip).edges(line, rising=active == "rising", debounce_s=debounce_s)
        self._waiting: deque[Trigger] = deque()
        self._seen = self._fired = 0
        self._closed = False

    def wait(self, timeout_s: float) -> Trigger | None:
        """The next trigger. Raises OutputError when the line is gone or closed."""
        if self._closed:
            raise OutputError(f"the trigger line {self.name} is closed")
        if not self._waiting:
            for edge in self._edges.wait(timeout_s):
                for _ in range(edge.number - self._seen - 1):
                    self._fire(edge.at_ns, "trigger_lost")
                self._fire(edge.at_ns)
                self._seen = edge.number
        return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        self._closed = True
        self._edges.close()

    def _fire(self, at_ns: int, refused: str = "") -> None:
        self._fired += 1
        self._waiting.append(Trigger(self._fired, at_ns, source=self.name, refused=refused))


@dataclass(frozen=True, slots=True, kw_only=True)
class GpioSettings(DeviceSettings):
    """Lines of this box (numbers on `chip`); every line that is not given is not used."""

    type: Literal["gpio"] = "gpio"
    chip: str = "/dev/gpiochip0"
    ok: Line | None = None
    """A pulse for each OK part: the pass signal. Without it a part is to be rejected."""
    reject: Line | None = None
    """Asserted all the time but during the pulse for an OK part; so it rejects before the first part, and when closed."""
    kick: Line | None = None
    """A pulse for each part that is not OK (an air jet). Not fail-safe: nobody kicks when this box is dead."""
    ready: Line | None = None
    """Asserted while the station's loop makes progress."""
    busy: Line | None = None
    """Asserted from a trigger to its verdict."""
    heartbeat: Line | None = None
    """A square wave of 2 Hz while the loop makes progress."""
    green: Line | None = None
    """The last part was OK."""
    yellow: Line | None = None
    """There was no part yet, the last one was UNKNOWN, or the loop stands."""
    red: Line | None = None
    """The last part was NG."""
    active_low: bool = False
    """All lines are asserted by a low level."""
    pulse_ms: Positive = 50.0
    """A verdict ends the pulse of the one before."""
    gate_delay_ms: Positive | None = None
    """The reject gate sits downstream: each verdict takes effect so long after its trigger, with several parts on the way."""
    gate_slack_ms: Positive = 50.0
    """A part that is so much by already when its verdict would take effect is rejected."""

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        for name in GPIO_LINES:
            if (line := getattr(self, name)) is not None:
                yield gpio_line(owner, (*place, name), self.chip, line)


class GpioOutput:
    """Verdicts on lines. Asserted is high, or low with `active_low`; a line that is not given is not used.

    Args:
        settings: see there.
        clock: the station's.
        chip: in place of the one that the settings name.

    Raises:
        OutputError: the lines cannot be taken. MissingExtra: gpiod is not installed. BadInput: no line, or one given twice.
    """

    settings = GpioSettings

    def __init__(self, settings: GpioSettings, clock: Clock | None = None, *, chip: Chip | None = None) -> None:
        given = {name: getattr(settings, name) for name in GPIO_LINES}
        self._lines: dict[str, int] = {name: line for name, line in given.items() if line is not None}
        numbers = list(self._lines.values())
        if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0:
            raise BadInput(f"GPIO lines {self._lines} are not usable", hint="give at least one line, each number once, from 0")
        if not settings.pulse_ms > 1000 * GAP_S:
            raise BadInput(f"a pulse of {settings.pulse_ms:g} ms is too short", hint=f"more than {1000 * GAP_S:g} ms")
        self._clock, self._pulse_ns = clock or MonotonicClock(), round(settings.pulse_ms * 1e6)
        self._verdict: Verdict | None = None
        self._pulse: tuple[int, int] = (0, 0)  # from, until
        self._pulses_ok = False
        self._loop_ns: int | None = None
        self._expected: set[int] = set()
        self._fault: OutputError | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._set = self._plan(self._clock.now_ns())
        opened = GpiodChip(settings.chip) if chip is None else chip
        self._out = opened.outputs(self._by_number(self._set), active_low=settings.active_low)
        self._thread = Supervised("gpio", self._run, died=self._died)
        self._thread.start()

    def expect(self, part_id: int, trigger: Trigger) -> None:
        """A part was triggered: busy until its verdict."""
        with self._changed:
            self._expected.add(part_id)
            self._changed.notify_all()

    def signal(self, inspection: Inspection) -> None:
        """Set the lines for this part at once. Raises OutputError when the kernel refuses, or when closed."""
        with self._changed:
            if self._closed:
                raise OutputError("the GPIO output is closed")
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            now_ns = self._clock.now_ns()
            self._expected.discard(inspection.part_id)
            self._verdict = inspection.verdict
            was_ok, self._pulses_ok = self._pulses_ok, inspection.verdict is Verdict.OK
            runs_on = now_ns < self._pulse[1] and was_ok == self._pulses_ok
            start = now_ns + round(GAP_S * 1e9) if runs_on else now_ns
            self._pulse = (start, start + self._pulse_ns)
            self._apply(now_ns)
            self._changed.notify_all()

    def heartbeat(self) -> None:
        with self._changed:
            if self._loop_ns is None:
                self._changed.notify_all()
            self._loop_ns = self._clock.now_ns()

    def fail_safe(self) -> None:
        """Reject and yellow; nothing else is asserted. Raises OutputError when the kernel refuses."""
        with self._changed:
            if not self._closed:
                self._make_safe()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            try:
                self._make_safe()
            except OutputError as error:
                _log.error("GPIO lines could not be made safe: %s", error)
            self._changed.notify_all()
        self._thread.join(JOIN_S)
        self._out.close()

    def _died(self, error: BaseException) -> None:
        """A pulse that nobody ends would pass every part."""
        self.fail_safe()

    def _make_safe(self) -> None:
        self._verdict, self._pulse, self._loop_ns = None, (0, 0), None
        self._expected.clear()
        self._apply(self._clock.now_ns())

    def _plan(self, now_ns: int) -> dict[str, bool]:
        """Which lines are to be asserted now."""
        alive = self._loop_ns is not None and now_ns - self._loop_ns <= LOOP_TIMEOUT_S * 1e9
        pulse = self._pulse[0] <= now_ns < self._pulse[1]
        known = self._verdict if alive else None
        return {
            "ok": pulse and self._pulses_ok,
            "reject": not (pulse and self._pulses_ok),
            "kick": pulse and not self._pulses_ok,
            "ready": alive,
            "busy": bool(self._expected),
            "heartbeat": alive and now_ns // round(BEAT_S * 1e9) % 2 == 0,
            "green": known is Verdict.OK,
            "yellow": known in (None, Verdict.UNKNOWN),
            "red": known is Verdict.NG,
        }

    def _apply(self, now_ns: int) -> None:
        plan = self._plan(now_ns)
        changed = {name: value for name, value in plan.items() if value != self._set[name] and name in self._lines}
        if changed:
            self._out.set(self._by_number(changed))
        self._set = plan

    def _by_number(self, values: Mapping[str, bool]) -> dict[int, bool]:
        return {line: values[name] for name, line in self._lines.items() if name in values}

    def _run(self) -> None:
        """Ends pulses, beats, and notices that the loop stands."""
        with self._changed:
            while not self._closed:
                now_ns = self._clock.now_ns()
                try:
                    self._apply(now_ns)
                except OutputError as error:
                    if self._fault is None:
                        _log.error("GPIO lines cannot be set: %s", error)
                    self._fault = error  # told at the next verdict, which then goes wrong as a whole
                beat_ns = round(BEAT_S * 1e9)
                moments = [*self._pulse, (now_ns // beat_ns + 1) * beat_ns]
                self._clock.wait(self._changed, min(moment for moment in moments if moment > now_ns))


class GpiodChip:
    """A GPIO character device, by libgpiod 2.x.

    The kernel gives lines back when the process ends, however it ends. Most drivers then leave an output at its last level, and
    a line may also become an input: docs/handshake.md tells how to wire for that.

    Args:
        path: e.g. ``/dev/gpiochip0``.

    Raises:
        MissingExtra: gpiod is not installed.
    """

    def __init__(self, path: str) -> None:
        require("gpiod", extra="gpio", why="GPIO")
        self._path = path

    def outputs(self, values: Mapping[int, bool], *, active_low: bool) -> OutputLines:
        import gpiod
        from gpiod.line import Direction, Value

        config = {
            line: gpiod.LineSettings(
                direction=Direction.OUTPUT,
                active_low=active_low,
                output_value=Value.ACTIVE if value else Value.INACTIVE,
            )
            for line, value in values.items()
        }
        return _GpiodOutputs(self._path, self._request(config))

    def edges(self, line: int, *, rising: bool, debounce_s: float) -> EdgeLine:
        from datetime import timedelta

        import gpiod
        from gpiod.line import Clock as EventClock
        from gpiod.line import Direction, Edge

        settings = gpiod.LineSettings(
            direction=Direction.INPUT,
            edge_detection=Edge.RISING if rising else Edge.FALLING,
            debounce_period=timedelta(seconds=debounce_s),
            event_clock=EventClock.MONOTONIC,
        )
        return _GpiodEdges(self._path, self._request({line: settings}))

    def _request(self, config: Mapping[int, LineSettings]) -> LineRequest:
        import gpiod

        lines: dict[Iterable[int | str] | int | str, LineSettings | None] = {}
        lines.update({line: settings for line, settings in config.items()})  # noqa: C416 - for its wider type
        try:
            return gpiod.request_lines(self._path, lines, consumer="edgead", event_buffer_size=256)
        except ValueError as error:
            raise BadInput(f"{self._path} has no GPIO lines {sorted(config)}: {error}", hint="gpioinfo lists them") from error
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise BadInput(f"{self._path} has no GPIO lines {sorted(config)}", hint="gpioinfo lists them") from error
            raise OutputError(
                f"GPIO lines {sorted(config)} of {self._path} cannot be taken: {error}",
                hint="check path, line numbers (gpioinfo), that no other program holds them, and the group of the device file",
            ) from error


class _GpiodOutputs:
    def __init__(self, path: str, request: LineRequest) -> None:
        self._path, self._request = path, request

    def set(self, values: Mapping[int, bool]) -> None:
        from gpiod.line import Value

        try:
            self._request.set_values({line: Value.ACTIVE if value else Value.INACTIVE for line, value in values.items()})
        except OSError as error:
            raise OutputError(f"GPIO lines of {self._path} cannot be set: {error}") from error

    def close(self) -> None:
        self._request.release()


class _GpiodEdges:
    def __init__(self, path: str, request: LineRequest) -> None:
        self._path, self._request = path, request
        self._lock = threading.Lock()  # libgpiod's requests are not thread-safe; closing waits for `wait`

    def wait(self, timeout_s: float) -> Sequence[Edge]:
        with self._lock:
            if not self._request:
                raise OutputError(f"the GPIO input of {self._path} is closed")
            try:
                if not self._request.wait_edge_events(timeout_s):
                    return ()
                return [Edge(event.timestamp_ns, event.line_seqno) for event in self._request.read_edge_events()]
            except OSError as error:
                raise OutputError(f"the GPIO input of {self._path} cannot be read: {error}") from error

    def close(self) -> None:
        with self._lock:
            self._request.release()


def _opened(chip: str | Chip) -> Chip:
    return GpiodChip(chip) if isinstance(chip, str) else chip
