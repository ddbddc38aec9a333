"""The process on the line box: CPUs, real-time priority, locked memory, garbage collection between parts. Linux only.

Each is an option; what the system refuses is one warning line, and the station runs without it.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgead.errors import BadInput

MCL_CURRENT, MCL_FUTURE = 1, 2  # of mlockall(2)
CAP_IPC_LOCK = 14  # capabilities(7)
FULL_EVERY_S = 60.0  # how often all garbage is looked for, while no part waits
YOUNG = 700  # new objects that are worth a look (CPython's own default)

_log = logging.getLogger("edgead.process")


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """What is asked of the system.

    Attributes:
        cpus: CPU numbers that the process keeps to; empty: all.
        realtime_priority: SCHED_FIFO priority 1 to 99 for all threads, also those of programs that outputs start; None: no.
        lock_memory: keep the process in memory, nothing is swapped out.
        collect_between_parts: no automatic garbage collection; the station's `on_idle` does it when no part waits.
        switch_interval_ms: how long a Python thread may hold the others up; None: Python's 5 ms.

    Raises:
        BadInput: a value out of range.
    """

    cpus: tuple[int, ...] = ()
    realtime_priority: int | None = None
    lock_memory: bool = False
    collect_between_parts: bool = True
    switch_interval_ms: float | None = 0.5

    def __post_init__(self) -> None:
        if any(cpu < 0 for cpu in self.cpus):
            raise BadInput(f"CPU {min(self.cpus)} does not exist", hint="CPU numbers begin with 0")
        if self.realtime_priority is not None and not 1 <= self.realtime_priority <= 99:
            raise BadInput(f"a real-time priority of {self.realtime_priority} does not exist", hint="choose 1 to 99")
        if self.switch_interval_ms is not None and not self.switch_interval_ms > 0:
            raise BadInput(f"a switch interval of {self.switch_interval_ms} ms is not above 0")


class Collector:
    """Garbage collection by hand: call it whenever no part waits. Young garbage costs tens of microseconds, all of it rarely more
    than a millisecond, since what was there at the start is frozen.

    Args:
        now_s: monotonic seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._full_at_s = now_s() + FULL_EVERY_S
        self.runs = 0

    def __call__(self) -> None:
        young, middle, _ = gc.get_count()
        if self._now_s() >= self._full_at_s:
            gc.collect()
            self._full_at_s = self._now_s() + FULL_EVERY_S
        elif young >= YOUNG:
            gc.collect(1 if middle >= 10 else 0)
        else:
            return
        self.runs += 1


@contextmanager
def tuned(options: ProcessOptions) -> Iterator[Callable[[], None] | None]:
    """Set the process up; do it before engines and cameras are opened, so that their threads inherit it.

    Yields:
        What the stations' `on_idle` shall be: the garbage collector, or None when Python goes on collecting by itself.
        At the end, collection and switch interval are as they were; CPUs, priority and locked memory stay.
    """
    interval_s, collecting = sys.getswitchinterval(), gc.isenabled()
    _attempt("CPU pinning", options.cpus, lambda: _pin(options.cpus))
    _attempt("real-time priority", options.realtime_priority, lambda: _realtime(options.realtime_priority or 0))
    _attempt("memory locking", options.lock_memory, _lock_memory)
    if options.switch_interval_ms is not None:
        sys.setswitchinterval(options.switch_interval_ms / 1000)
    collector = None
    if options.collect_between_parts:
        gc.collect()
        gc.freeze()
        gc.disable()
        collector = Collector()
    try:
        yield collector
    finally:
        sys.setswitchinterval(interval_s)
        if options.collect_between_parts:
            gc.unfreeze()
            if collecting:
                gc.enable()


def _attempt(what: str, wanted: object, do: Callable[[], None]) -> None:
    if not wanted:
        return
    if sys.platform != "linux":
        _log.warning("%s is not set: it is for Linux only", what)
        return
    try:
        do()
    except OSError as error:
        _log.warning("%s is not set: %s", what, error.strerror or error)


if sys.platform == "linux":

    def _threads() -> list[int]:
        """Ids of all threads of this process: settings hold for the thread that calls, and those that it begins later."""
        return [int(task.name) for task in Path("/proc/self/task").iterdir()]

    def _pin(cpus: tuple[int, ...]) -> None:
        missing = set(cpus) - os.sched_getaffinity(0)
        if missing:
            allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
            raise OSError(0, f"CPU {min(missing)} is not there, or not for this process (allowed: {allowed})")
        for thread in _threads():
            os.sched_setaffinity(thread, cpus)

    def _realtime(priority: int) -> None:
        for thread in _threads():
            try:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
            except PermissionError as error:
                raise OSError(0, "it needs CAP_SYS_NICE, or LimitRTPRIO= in the systemd unit") from error

    def _lock_memory() -> None:
        import resource

        unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
        if not unlimited and not _has_capability(CAP_IPC_LOCK):
            # Within a limit the call would succeed, and the next allocation above it would fail.
            raise OSError(0, "it needs CAP_IPC_LOCK, or LimitMEMLOCK=infinity in the systemd unit")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def _has_capability(number: int) -> bool:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
        return False
