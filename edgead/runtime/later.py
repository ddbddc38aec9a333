"""What is not there yet when the station starts: opened as soon as it is there, while everything else works.

A camera has its own way back (:mod:`edgead.runtime.loop.feed`); this is for outputs, trigger lines and servers. What is wrong in
the
file is no case for it: that is BadInput, and ends the start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic

from edgead.clock import Clock
from edgead.errors import LinkError, OutputError
from edgead.runtime.loop.inspector import one_line
from edgead.runtime.opening import Attempts, T
from edgead.runtime.plc.device import PlcLink
from edgead.runtime.plc.signals import FromPlc, ToPlc
from edgead.types import Inspection, Output, Trigger, TriggerSource

PAUSE_S = (0.5, 10.0)
"""First and longest wait before it is tried again; it doubles in between."""


ATTEMPT_S = 1.0
"""How long whoever asks for it waits for an attempt; one that takes longer goes on beside him, and is taken up the next time."""


class Later(Generic[T]):
    """Tries to open something, again and again with growing pauses, whenever it is asked for and the time has come.

    Args:
        what: its name for people, e.g. "output gpio".
        attempts: raise OutputError as long as it is not there.
        fault: why it was not there the first time.
        clock: of the pauses.
    """

    def __init__(self, what: str, attempts: Attempts[T], fault: OutputError, clock: Clock) -> None:
        self.what, self.fault = what, fault
        self._attempts, self._clock = attempts, clock
        self._there: T | None = None
        self._closed = False
        self._tries = 0
        self._due_ns = clock.now_ns() + round(PAUSE_S[0] * 1e9)
        self._lock = threading.Lock()
        self._tell: Callable[[str, str], None] | None = None

    def watch(self, tell: Callable[[str, str], None]) -> None:
        """`tell(name, text)` is called with what is wrong now, and with "" once it is there (Station.missing)."""
        with self._lock:
            self._tell = tell
            if self._there is None:
                tell(self.what, _told(self.fault))

    @property
    def there(self) -> T | None:
        """It, if it was there at the last look."""
        return self._there

    def get(self) -> T | None:
        """It, or None as long as it is not there. Takes `ATTEMPT_S` seconds at most; one caller at a time opens."""
        if self._there is not None or self._closed or self._clock.now_ns() < self._due_ns:
            return self._there
        with self._lock:
            if self._there is not None or self._closed or self._clock.now_ns() < self._due_ns:
                return self._there
            try:
                self._there = self._attempts.take(ATTEMPT_S)
            except BaseException as error:  # noqa: BLE001 - whatever the adapter raises, the next attempt may succeed
                self.fault = absent(self.what, error)
                self._tries += 1
                self._due_ns = self._clock.now_ns() + round(self.pause_s * 1e9)
                if self._tell is not None:
                    self._tell(self.what, _told(self.fault))
                return None
            if self._tell is not None:
                self._tell(self.what, "")
            return self._there

    @property
    def pause_s(self) -> float:
        """From the last attempt to the next."""
        return float(min(PAUSE_S[0] * 2 ** min(self._tries, 16), PAUSE_S[1]))

    def close(self) -> None:
        """Close what was opened, and open no more; may be called twice."""
        with self._lock:
            self._closed = True
            there, self._there = self._there, None
        self._attempts.let_go()
        if there is not None:
            there.close()


class LateOutput:
    """An output that is not there yet. Until it is, no verdict reaches it, each is an error, and it asserts nothing."""

    def __init__(self, later: Later[Output]) -> None:
        self._later = later
        self._counts: dict[str, int] = {}  # in the end

    @property
    def title(self) -> str:
        """Its name in counters and for people: that of what it stands in for."""
        return self._later.what.removeprefix("output ")

    def expect(self, part_id: int, trigger: Trigger) -> None:
        """As of the output, where it has it; never waits for it."""
        output = self._later.there  # not `get`, which may take its time
        if output is not None and hasattr(output, "expect"):
            output.expect(part_id, trigger)

    def counts(self) -> dict[str, int]:
        """As of the output, where it has some."""
        output = self._later.there
        return dict(output.counts()) if output is not None and hasattr(output, "counts") else dict(self._counts)

    def signal(self, inspection: Inspection) -> None:
        """Raises OutputError: it is not there."""
        output = self._later.get()
        if output is None:
            raise OutputError(f"{self._later.what} is not there: {self._later.fault}", hint=self._later.fault.hint)
        output.signal(inspection)

    def heartbeat(self) -> None:
        """Of the station's loop; here the output is looked for while no part comes."""
        if (output := self._later.get()) is not None:
            output.heartbeat()

    def fail_safe(self) -> None:
        output = self._later.there
        if output is not None:
            output.fail_safe()

    def close(self) -> None:
        output = self._later.there
        self._later.close()
        if output is not None and hasattr(output, "counts"):
            self._counts = dict(output.counts())


class LateTriggers:
    """A trigger source that is not there yet; until it is, no trigger comes."""

    def __init__(self, later: Later[TriggerSource], clock: Clock) -> None:
        self._later, self._clock = later, clock
        self._closing = threading.Condition()

    def wait(self, timeout_s: float) -> Trigger | None:
        """The next trigger; see :class:`edgead.types.TriggerSource`."""
        source = self._later.get()
        if source is not None:
            return source.wait(timeout_s)
        with self._closing:
            self._clock.wait(self._closing, self._clock.now_ns() + round(timeout_s * 1e9))
        return None

    def close(self) -> None:
        with self._closing:
            self._closing.notify_all()
        self._later.close()


class LateLink:
    """A PLC link that cannot listen yet, because the address is not up or another program has the port."""

    def __init__(self, later: Later[PlcLink]) -> None:
        self._later = later

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        """As of the link. Raises LinkError: it is not there."""
        link = self._later.get()
        if link is None:
            fault = self._later.fault
            raise LinkError(str(fault), cause="listen", hint=fault.hint)
        return link.exchange(to_plc)

    def threshold(self) -> tuple[float, str] | None:
        """As of the link, where it tells one."""
        link = self._later.there
        return link.threshold() if link is not None and hasattr(link, "threshold") else None

    def close(self) -> None:
        self._later.close()


def absent(what: str, error: BaseException) -> OutputError:
    """Why `what` is not there, whatever its adapter has raised."""
    if isinstance(error, OutputError):
        return error
    reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {one_line(error)}"
    return OutputError(f"{what} cannot be opened: {reason}")


def _told(error: OutputError) -> str:
    return f"{error} ({error.hint}); it is tried again" if error.hint else f"{error}; it is tried again"
