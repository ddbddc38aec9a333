"""What every request must pass before anybody answers it: host, origin, size, content; and the headers of every answer."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from edgead.dashboard.sessions import Doors

MOST_BYTES = 64 * 1024
"""Of a request's body."""
COOKIE = "edgead_session"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class TooLarge(Exception):
    """A body that is longer than any of ours."""


class Guard:
    """Around the whole application.

    Args:
        app: what answers.
        doors: who is logged in.
        names: host names under which it may be called, besides addresses and localhost.
        secure: browsers come over TLS, ours or the proxy's.
        proxied: the address of who asks stands in X-Forwarded-For.
    """

    def __init__(self, app: App, doors: Doors, *, names: Sequence[str] = (), secure: bool = False, proxied: bool = False) -> None:
        self._app, self._doors, self._secure, self._proxied = app, doors, secure, proxied
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        doubled = [name for name, _ in scope["headers"] if name in (b"host", b"origin", b"content-type", b"x-csrf")]
        secured = self._headed(scope, send)
        cookie = _cookie(headers.get("cookie", ""))
        who = self._doors.who(cookie)
        fault = (400, "a header is there twice") if len(set(doubled)) < len(doubled) else self._fault(scope, headers, who.csrf)
        if fault is not None:
            await _refuse(secured, *fault)
            return
        scope.setdefault("state", {})
        scope["state"].update(who=who, client=self._client(scope, headers), cookie=cookie)
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await secured(message)

        try:
            await self._app(scope, _bounded(receive), noted)
        except TooLarge:
            await _refuse(secured, 413, f"a request is {MOST_BYTES} bytes at most")
        except asyncio.CancelledError:  # only the server does that, when it stops and has waited long enough
            if not begun:
                await _refuse(secured, 503, "the dashboard stops")

    def _fault(self, scope: MutableMapping[str, Any], headers: dict[str, str], csrf: str) -> tuple[int, str] | None:
        """Status and words; None: it may pass."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 403, "this server is not called by that name; --host-name NAME allows one"
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{'https' if self._secure else 'http'}://{host.lower()}":
            return 403, "another site asks: only the dashboard's own pages may"
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return 405, "only GET, HEAD and POST"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "another site asks: only the dashboard's own pages may"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 400, "a change is JSON: Content-Type: application/json"
        if not secrets.compare_digest(headers.get("x-csrf", "").encode(), csrf.encode()):
            return 403, "X-CSRF is missing or not that of /api/session: load the page again"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or len(length) > 12 or int(length) > MOST_BYTES:
            return 413, f"a request is {MOST_BYTES} bytes at most"
        return None

    def _is_ours(self, host: str) -> bool:
        """An address (a name server that lies cannot make one up), or one of our names."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True

    def _client(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> str:
        """The address of who asks."""
        if self._proxied and (told := headers.get("x-forwarded-for", "")):
            return told.rpartition(",")[2].strip()[:60]
        return str(scope["client"][0]) if scope.get("client") else ""

    def _headed(self, scope: MutableMapping[str, Any], send: Send) -> Send:
        """Adds the headers."""
        fresh = not scope["path"].startswith("/static/")
        more = {**HEADERS, **({"strict-transport-security": "max-age=31536000"} if self._secure else {})}
        more |= {"cache-control": "no-store" if fresh else "no-cache"}

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [one for one in message.get("headers", ()) if one[0].decode("latin-1").lower() not in more]
                message["headers"] = [*kept, *((name.encode(), value.encode()) for name, value in more.items())]
            await send(message)

        return headed


def _bounded(receive: Receive) -> Receive:
    """Raises TooLarge, also where no length was told."""
    got = 0

    async def bounded() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > MOST_BYTES:
            raise TooLarge
        return message

    return bounded


def _cookie(text: str) -> str:
    """Ours."""
    for one in text.split(";"):
        name, _, value = one.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


async def _refuse(send: Send, status: int, words: str) -> None:
    body = json.dumps({"error": words, "hint": ""}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
