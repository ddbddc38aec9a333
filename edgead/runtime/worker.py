"""A thread with a bounded queue: whatever is slow (a PLC, a disk, a user's callback) happens there, never in the loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Hands items to `handle`, one after the other, on its own thread.

    Args:
        name: for the thread.
        handle: called with each item; what it raises goes to `on_error` and the next item follows.
        capacity: items that may wait.
        on_error: called on the worker's thread with the exception.
        idle: called after `poke` once the queue is empty (a heartbeat); several pokes may become one call.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[T], None],
        *,
        capacity: int,
        on_error: Callable[[Exception], None],
        idle: Callable[[], None] | None = None,
    ) -> None:
        self._handle, self._on_error, self._idle = handle, on_error, idle
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._poked = False
        self._closing = False
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"edgead-{name}", daemon=True)
        self._thread.start()

    def put(self, item: T) -> bool:
        """Queue an item; a full queue loses its oldest one, and then this is False."""
        with self._condition:
            full = len(self._items) >= self._capacity
            if full:
                self._items.popleft()
            self._items.append(item)
            self._condition.notify_all()
            return not full

    def wait_for_room(self, wait_s: float) -> bool:
        """Wait up to `wait_s` seconds of real time until `put` would lose nothing."""
        with self._condition:
            return self._condition.wait_for(lambda: len(self._items) < self._capacity, wait_s)

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
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._items or self._poked or self._closing)
                if self._items:
                    item = self._items.popleft()
                    self._condition.notify_all()
                elif self._poked:
                    self._poked = False
                    item = None
                else:
                    return
            try:
                if item is not None:
                    self._handle(item)
                elif self._idle is not None:
                    self._idle()
            except Exception as error:  # noqa: BLE001 - a user's or a driver's fault must not end the worker
                self._on_error(error)
