"""Server-sent events: what happens, to each browser that looks on. One that does not read costs its own events only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

from edgead.dashboard.board import Board
from edgead.dashboard.guard import Message, Receive, Send
from edgead.dashboard.hub import Reader

KEEP_S = 15.0
"""A comment goes out so often, so that proxies and browsers know that the stream lives."""
MOST = 300
"""Streams at once."""


class Events:
    """``/api/events``, as an ASGI application.

    Args:
        board: the dashboard.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        who = scope["state"]["who"]
        if scope["method"] != "GET":
            await _refuse(send, 405, "not by this method")
        elif not who.may("viewer"):
            await _refuse(send, 401, "log in first")
        elif self._board.hub.readers >= MOST:
            await _refuse(send, 429, f"{MOST} pages look on already")
        else:
            await self._stream(scope, receive, send)

    async def _stream(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        reader = self._board.hub.join()
        gone = asyncio.create_task(_gone(receive))
        told = asyncio.create_task(self._tell(reader, scope, send))
        try:
            await asyncio.wait({gone, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._board.hub.leave(reader)
            reader.end()  # Python's wait_for before 3.12 may swallow a cancellation: then this ends the stream
            for task in (gone, told):
                task.cancel()
            await asyncio.gather(gone, told, return_exceptions=True)

    async def _tell(self, reader: Reader, scope: MutableMapping[str, Any], send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"x-accel-buffering", b"no"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        data = b"event: hello\ndata: {}\n\n"
        while self._still(scope) and not reader.over:
            message: Message = {"type": "http.response.body", "body": data, "more_body": True}
            await send(message)  # waits as long as the browser takes nothing; serving.py ends that
            data = await reader.next(KEEP_S) or b": still here\n\n"
        await send({"type": "http.response.body", "body": b""})

    def _still(self, scope: MutableMapping[str, Any]) -> bool:
        """Is the session not over?"""
        cookie = scope["state"].get("cookie", "")
        return self._board.doors.who(cookie, used=False).may("viewer")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, status: int, words: str) -> None:
    body = json.dumps({"error": words, "hint": ""}).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
