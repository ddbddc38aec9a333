"""A thread with a bounded queue: whatever is slow (a PLC, a disk, a user's callback) happens there, never in the loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edgead.errors import EdgeadError, OutputError
from edgead.runtime.threads import Supervised

T = TypeVar("T")


class Worker(Generic[T]):
    """Hands items to `handle`, one after the other, on its own thread.

    Args:
        name: for the thread.
        handle: called with each item; what it raises goes to `on_error` and the next item follows. What is no Exception (a
            native extension's panic, SystemExit) is the death of the thread, too; then the next item may wait for a moment.
        capacity: items that may wait.
        on_error: called on the worker's thread with the exception.
        idle: called after `poke` once the queue is empty (a heartbeat); several pokes may become one call.
        on_lost: called on the worker's thread, before the next item, after a full queue has lost one.
        stalled, patience_s, kind: see :class:`edgead.runtime.threads.Supervised`; of one item or one call of `idle`.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[T], None],
        *,
        capacity: int,
        on_error: Callable[[BaseException], None],
        idle: Callable[[], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        stalled: Callable[[], None] | None = None,
        patience_s: float | None = None,
        kind: type[EdgeadError] = OutputError,
    ) -> None:
        self._handle, self._on_error, self._idle, self._on_lost = handle, on_error, idle, on_lost
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._poked = self._lost = False
        self._closing = self._busy = False
        self._condition = threading.Condition()
        self._thread = Supervised(name, self._run, died=on_error, stalled=stalled, patience_s=patience_s, kind=kind)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self._items)

    def put(self, item: T) -> bool:
        """Queue an item; a full queue loses its oldest one, and then this is False."""
        with self._condition:
            full = len(self._items) >= self._capacity
            if full:
                self._items.popleft()
                self._lost = True
            self._items.append(item)
            self._condition.notify_all()
            return not full

    def wait_for_room(self, wait_s: float) -> bool:
        """Wait up to `wait_s` seconds of real time until `put` would lose nothing."""
        with self._condition:
            return self._condition.wait_for(lambda: len(self._items) < self._capacity, wait_s)

    def finished(self, wait_s: float) -> bool:
        """Wait up to `wait_s` seconds of real time until nothing waits and nothing is being handled."""
        with self._condition:
            return self._condition.wait_for(lambda: not (self._items or self._busy), wait_s)

    def poke(self) -> None:
        """Ask for a call of `idle`."""
        with self._condition:
            self._poked = True
            self._condition.notify_all()

    def close(self, wait_s: float) -> bool:
        """Finish the queue and end; False when `handle` did not return within `wait_s` seconds (the thread is left behind)."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        return self._thread.join(wait_s)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._thread.turn()
            try:
                job()
            except Exception as error:  # noqa: BLE001 - a user's or a driver's fault must not end the worker
                self._on_error(error)

    def _next(self) -> Callable[[], None] | None:
        """What to do next, waiting for it; None at the end."""
        with self._condition:
            self._thread.rest()
            self._busy = False
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._items or self._poked or self._closing)
            if self._lost:
                self._lost = False
                if self._on_lost is not None:
                    return self._on_lost
            if self._items:
                item = self._items.popleft()
                self._busy = True
                self._condition.notify_all()
                return lambda: self._handle(item)
            if self._poked:
                self._poked = False
                return self._idle or (lambda: None)
            return None
