"""The HTTP server: uvicorn, with connections that nobody uses closed before they keep others out."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgead.errors import BadInput
from edgead.runtime.listening import check_host, refused, try_listening

REQUEST_S = 10.0
"""From connecting, or from the first byte of a request, to the end of its head."""
KEEP_S = 5.0
MOST = 400
"""Connections at once; of more the one that idles longest is closed."""
STALLED_S = 60.0
"""A browser that takes nothing of its answer for so long is gone."""
GRACE_S = 2

_log = logging.getLogger("edgead.dashboard")


@dataclass(frozen=True, slots=True)
class Address:
    """Where it listens.

    Attributes:
        host, port: of it.
        cert, key: PEM files; None: without TLS.
    """

    host: str
    port: int
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, text: str, cert: Path | None = None, key: Path | None = None) -> Address:
        """``HOST:PORT``. Raises BadInput."""
        host, colon, port = text.rpartition(":")
        host = host.strip("[]")
        if not colon or not port.isascii() or not port.isdecimal() or not int(port) <= 65535:
            raise BadInput(f"{text[:80]!r} is no address to listen on", hint="HOST:PORT, such as 127.0.0.1:8080")
        check_host(host)
        if (cert is None) != (key is None):
            raise BadInput("TLS needs a certificate and its key", hint="--tls-cert FILE --tls-key FILE")
        return cls(host, int(port), cert, key)

    @property
    def loopback(self) -> bool:
        """Can only programs of this machine reach it?"""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name, such as 127.example, may lead anywhere
            return False

    def listen(self) -> socket.socket:
        """Raises OutputError."""
        try_listening(self.host, self.port, "cannot listen")
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=1024)
        except OSError as error:
            raise refused(self.host, self.port, "cannot listen", error) from error

    def check_tls(self) -> None:
        """Raises BadInput: certificate or key cannot be used."""
        if self.cert is None or self.key is None:
            return
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.cert, self.key, password=lambda: "")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise BadInput(f"{self.cert}, {self.key}: {error}", hint="PEM files, the key without a password") from error


class Server(uvicorn.Server):
    """Serves an application on a socket that listens already.

    Args:
        app: the application.
        address: for TLS.
        listener: the socket.
        ending: called on the event loop when it is to stop: streams must end.
    """

    def __init__(self, app: Any, address: Address, listener: socket.socket, ending: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(KEEP_S),
            timeout_graceful_shutdown=GRACE_S,
            ssl_certfile=address.cert,
            ssl_keyfile=address.key,
        )
        super().__init__(config)
        self._listener, self._ending = listener, ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Protocol):
                connection.end_stalled()
        await super().shutdown(sockets)

    def serve_until_told(self) -> None:
        """Until `should_exit` or a signal."""
        _take_descriptors()
        self.run(sockets=[self._listener])


class _Protocol(H11Protocol):
    """One connection. It is closed when no whole request head comes in time; the one that idles longest goes for a new one."""

    _waiting: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._idle_since = self.loop.time()
        self._watch()
        if len(self.connections) > MOST:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._busy:
            self._unwatch()
        elif self._waiting is None:
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if not self._busy and self._waiting is None:
            self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._go_on()
        super().connection_lost(exc)

    def end_stalled(self) -> None:
        """The server stops: a browser that takes nothing would keep it, and be cut off in the middle anyway."""
        if self._stalled is not None:
            self.transport.abort()

    @property
    def _busy(self) -> bool:
        """Is somebody being answered?"""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        self._waiting = self.loop.call_later(REQUEST_S, self._give_up)

    def _unwatch(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self._busy:
            self.transport.close()

    def _make_room(self) -> None:
        idle = [one for one in self.connections if isinstance(one, _Protocol) and one is not self and not one._busy]
        if idle:
            oldest = min(idle, key=lambda one: one._idle_since)
            self.connections.discard(oldest)
            oldest.transport.abort()
        else:
            self.transport.abort()


def _take_descriptors() -> None:
    """As many open files as the system grants: each connection is one."""
    with suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
