"""Does the station live? Told to systemd (readiness, watchdog, status) and to whoever asks, by the loops' progress alone.

sd_notify(3): datagrams of ``KEY=VALUE`` lines to the Unix socket in ``$NOTIFY_SOCKET``; a leading ``@`` means the abstract
namespace.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput
from edgead.runtime.loop.stats import Health, Stats
from edgead.runtime.threads import Crew, Supervised

TICK_S = 1.0  # how often is looked, at the slowest

_log = logging.getLogger("edgead.supervision")


class Observed(Protocol):
    """What is watched: a :class:`edgead.runtime.loop.station.Station`."""

    stats: Stats

    def health(self) -> Health: ...


class Notifier:
    """Speaks to systemd; never waits, never raises: a full or missing socket costs the message.

    Args:
        environment: with ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` as systemd sets them; without the first
            nothing is sent.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address[:1] in ("@", "/") else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._failed = False
        self.watchdog_s = _watchdog_s(environment) if self._socket is not None else None

    @property
    def connected(self) -> bool:
        """Is somebody to be told?"""
        return self._socket is not None

    def send(self, **fields: str | int) -> bool:
        """Send e.g. ``READY=1, STATUS="..."`` as one message; False when it is lost."""
        if self._socket is None:
            return True
        text = "\n".join(f"{key}={' '.join(str(value).split())}" for key, value in fields.items())
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._failed:
                _log.warning("systemd cannot be told: %s", error.strerror or error)
            self._failed = True
            return False
        self._failed = False
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Seconds within which systemd wants to hear of us; None when it does not."""
    text = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "") or str(os.getpid())
    return int(text) / 1e6 if text.isdecimal() and int(text) > 0 and pid == str(os.getpid()) else None


@dataclass(frozen=True, slots=True)
class Report:
    """How the process is doing.

    Attributes:
        alive: no loop stands still.
        ready: every station gives verdicts.
        reason: why not, else "".
        stations: by name, what :class:`edgead.runtime.loop.stats.Health` says, with ages in seconds instead of clock readings.
    """

    alive: bool
    ready: bool
    reason: str
    stations: Mapping[str, Mapping[str, Any]]


class Supervisor:
    """Watches stations, between `start` and `close` from a thread of its own, and keeps systemd's watchdog quiet while all live.

    One loop that stands still is enough for the watchdog to hear nothing more, so systemd restarts the process. READY goes out
    once every station has left its start behind (a lost camera is a fault, but not of the start).

    The crew in which it is made is the process's: its threads' faults are told beside the stations', and it is looked after.

    Args:
        stations: by name.
        stalled_after_s: a running loop without a turn for so long stands still.
        notifier: speaks to systemd; this closes it.
        clock: the stations'.

    Raises:
        BadInput: `stalled_after_s` is not above 0.
    """

    def __init__(
        self,
        stations: Mapping[str, Observed],
        *,
        stalled_after_s: float,
        notifier: Notifier | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not stalled_after_s > 0:
            raise BadInput(f"stalled after {stalled_after_s} s makes no sense", hint="give more than 0")
        self._stations, self._stalled_after_s = dict(stations), stalled_after_s
        self._notifier, self._clock = notifier or Notifier({}), clock or MonotonicClock()
        self._ready_told, self._told = False, ""
        self._alive = True
        self._crew = Crew.current()
        self._end = threading.Event()
        self._thread: Supervised | None = None

    def report(self) -> Report:
        """How all stations are doing; cheap, from any thread."""
        now_ns = self._clock.now_ns()
        shown: dict[str, dict[str, Any]] = {}
        stalled, unready = [], []
        for name, station in self._stations.items():
            health = station.health()
            age_s = (now_ns - health.progress_at_ns) / 1e9
            if health.state != "stopped" and age_s > self._stalled_after_s:
                stalled.append(f"{name}: no progress for {age_s:.1f} s" + (f" ({health.fault})" if health.fault else ""))
            elif health.state != "ready":
                unready.append(f"{name}: {health.state}" + (f", {health.fault}" if health.fault else ""))
            shown[name] = _shown(health, now_ns)
        for name, fault in self._crew.faults().items():
            if not any(fault in text for text in unready):  # a station without a crew of its own has told it
                unready.append(f"{name}: {fault}")
        return Report(not stalled, not stalled and not unready, "; ".join(stalled + unready), shown)

    def tick(self) -> None:
        """Look once and tell systemd."""
        for crew in self._crew.crews():
            crew.look()
        report = self.report()
        if report.alive != self._alive:
            _log.log(
                logging.WARNING if report.alive else logging.ERROR,
                "%s", "all loops make progress again" if report.alive else f"the watchdog is not told any more: {report.reason}",
            )  # fmt: skip
            self._alive = report.alive
        fields: dict[str, str | int] = {}
        if not self._ready_told and all(s["state"] in ("ready", "faulted") for s in report.stations.values()):
            fields["READY"] = 1
        if report.alive and self._notifier.watchdog_s is not None:
            fields["WATCHDOG"] = 1
        if (status := self._status(report)) != self._told:
            fields["STATUS"] = status
        if fields and self._notifier.send(**fields):  # what is lost is told again with the next look
            self._ready_told = self._ready_told or "READY" in fields
            self._told = status

    def start(self) -> Supervisor:
        """Look from now on, at least four times in the watchdog's period."""
        period_s = min(TICK_S, (self._notifier.watchdog_s or TICK_S * 4) / 4)
        self._thread = Supervised("supervisor", partial(self._watch, period_s))
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop looking, then tell systemd that this is a stop, not a fault: its last word from us. May be called twice."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._notifier.send(STOPPING=1, STATUS="stopping")
        self._notifier.close()

    def __enter__(self) -> Supervisor:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _watch(self, period_s: float) -> None:
        while not self._end.wait(period_s):
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - without its thread, nobody would ever hear why the watchdog bit
                _log.exception("the supervisor failed; systemd hears nothing until it works again")

    def _status(self, report: Report) -> str:
        """One line for `systemctl status`."""
        told = []
        for name, station in self._stations.items():
            verdicts = station.stats.verdicts
            told.append(f"{name}: {verdicts['OK']} OK, {verdicts['NG']} NG, {verdicts['UNKNOWN']} UNKNOWN")
        return "; ".join(([report.reason] if report.reason else []) + told)


def _shown(health: Health, now_ns: int) -> dict[str, Any]:
    values = asdict(health)
    for name in ("progress", "verdict"):
        at_ns = values.pop(f"{name}_at_ns")
        values[f"{name}_age_s"] = round((now_ns - at_ns) / 1e9, 3) if at_ns else None
    return values
