"""A run that ends when somebody asks for it: by a signal, or from another thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stoppable(Protocol):
    """What runs."""

    def stop(self) -> None: ...


class Stopper:
    """Stops a station whenever that is asked for, also while it is still being put together."""

    def __init__(self) -> None:
        self._station: Stoppable | None = None
        self._asked = False

    def attach(self, station: Stoppable) -> None:
        """This is the station; when a stop was asked for before, its run ends at once."""
        self._station = station
        if self._asked:
            station.stop()

    @property
    def asked(self) -> bool:
        """Whether that was asked for."""
        return self._asked

    def stop(self) -> None:
        self._asked = True
        if self._station is not None:
            self._station.stop()


@contextmanager
def stopped_by_signals() -> Iterator[Stopper]:
    """SIGINT, SIGTERM and SIGHUP (the terminal is gone) stop the station cleanly; only a second SIGINT interrupts.

    A SIGHUP that was ignored before (nohup) stays ignored. Everything that must be closed well (stores, outputs) belongs inside.
    """
    stopper = Stopper()
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return

    def stop(number: int, frame: object) -> None:
        stopper.stop()
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT] or signal.SIG_DFL)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
