"""asyncio loops of libraries on threads of our own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from edgead.errors import LinkError
from edgead.runtime.threads import Supervised

CLOSE_S = 0.5

_log = logging.getLogger("edgead.plc")
_T = TypeVar("_T")


OUT_OF_RESOURCE = "socket.accept() out of system resource"
"""What asyncio says when a connection waits and there is no file descriptor for it."""

SPARE = 2


class LoopFaults:
    """The exception handler of a loop: what asyncio would say with a trace, in one line.

    With a few file descriptors in reserve, too: asyncio tries to accept a connection for which there is none a hundred times in a
    row, and again, ever more often, until the whole process stands (CPython's selector_events). Whoever waits is hung up on
    instead, and may come again.
    """

    def __init__(self) -> None:
        self._spare: list[int] = []
        self._closed = False
        self._reserve()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        listener = context.get("socket")
        if context.get("message") == OUT_OF_RESOURCE and listener is not None:
            turned_away = self._turn_away(listener.fileno())
            loop.call_soon(self._reserve)  # not now: asyncio's next look needs one, to find that nobody waits
            _log.warning("no file descriptors are left: %d connections were hung up on; look at: ulimit -n", turned_away)
        else:
            told_in_one_line(loop, context)

    def close(self) -> None:
        """Give the reserve back, for good."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        while self._spare:
            os.close(self._spare.pop())

    def _reserve(self) -> None:
        try:
            while len(self._spare) < SPARE and not self._closed:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            _log.debug("no file descriptors for a reserve: %s", error)

    def _turn_away(self, listener: int) -> int:
        """Hang up on all that wait there; how many."""
        count = 0
        self._release()
        try:
            with socket.socket(fileno=os.dup(listener)) as waiting:
                while True:
                    waiting.accept()[0].close()
                    count += 1
        except OSError:  # BlockingIOError: nobody waits any more
            return count


class LoopThread:
    """An asyncio loop on a thread of its own.

    Args:
        name: of the thread, without "edgead-".
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._faults = LoopFaults()
        self.loop.set_exception_handler(self._faults)
        self._thread = Supervised(name, self.loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T], limit_s: float) -> _T:
        """Run on the loop and wait; LinkError when it takes longer than `limit_s`, which nothing here should."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(limit_s)
        except concurrent.futures.TimeoutError as error:
            if future.done():
                raise
            future.cancel()
            raise LinkError(f"OPC UA did not come back within {limit_s:g} s", cause="timeout") from error

    def close(self) -> None:
        """End the loop, and whatever still runs on it."""
        asyncio.run_coroutine_threadsafe(_cancel_others(), self.loop).result(2 * CLOSE_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        if self._thread.join(CLOSE_S):
            self.loop.close()
        self._faults.close()


def told_in_one_line(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio would say with a trace. That nobody waited for a library's task is its own affair: such faults are told where
    they are noticed."""
    message = str(context.get("message")).splitlines()[0]
    error = context.get("exception")
    level = logging.DEBUG if any(words in message for words in ("never retrieved", "was destroyed")) else logging.WARNING
    _log.log(level, "asyncio: %s: %s", message, error if error is not None else "no exception")


async def _cancel_others() -> None:
    """End what a library left running on this loop."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.wait(others, timeout=CLOSE_S) if others else await asyncio.sleep(0)
