"""asyncio loops of libraries on threads of our own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from edgead.runtime.plc import LinkError
from edgead.runtime.threads import Supervised

CLOSE_S = 0.5

_log = logging.getLogger("edgead.plc")
_T = TypeVar("_T")


class LoopThread:
    """An asyncio loop on a thread of its own.

    Args:
        name: of the thread, without "edgead-".
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(told_in_one_line)
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
