"""A small HTTP server beside the station: /healthz (does it live), /readyz (does it give verdicts), /metrics (Prometheus).

It reads what the station already knows, takes nothing, and whoever calls it cannot hold anything up: one thread for all, which
never waits for a client; few connections, each for seconds only.
"""

from __future__ import annotations

import io
import json
import logging
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any

from edgead.errors import BadInput
from edgead.runtime.listening import check_host, refused, try_listening
from edgead.runtime.redact import redact_all
from edgead.runtime.supervision.supervisor import Report
from edgead.runtime.threads import Supervised

MAX_CONNECTIONS = 8
CONNECTION_S = 5.0  # from connecting to the last byte
POLL_S = 0.2  # how often overdue connections are looked for
RETRY_S = 2.0  # an address that cannot be listened on is tried again so often
LONGEST_REQUEST = 16_384  # bytes

_WHAT = "health and metrics cannot be served"
_log = logging.getLogger("edgead.health")


class HealthServer:
    """Serves from its own thread between construction and `close`.

    ``/healthz`` answers 200 while no loop stands still, ``/readyz`` while every station gives verdicts; else 503. Both give the
    report as JSON. Of more than 8 connections at once the oldest is closed, and each after 5 seconds. An address that cannot be
    listened on (another program has the port, the interface is not up) is one line in the log and is tried again.

    Args:
        report: e.g. :meth:`edgead.runtime.supervision.supervisor.Supervisor.report`.
        metrics: content type and body of ``/metrics``; None answers 404.
        host: address to listen on; the default is reached from this machine only.
        port: 0 takes a free one.

    Raises:
        BadInput: not an address, or not a port.
    """

    def __init__(
        self,
        report: Callable[[], Report],
        *,
        metrics: Callable[[], tuple[str, bytes]] | None = None,
        host: str = "127.0.0.1",
        port: int = 9108,
    ) -> None:
        check_host(host)
        if not 0 <= port <= 65535:
            raise BadInput(f"{port} is not a port", hint="0 to 65535")
        self._report, self._metrics, self._place = report, metrics, (host, port)
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._clients: dict[socket.socket, _Client] = {}  # by age
        self._closing = False
        self._fault = ""
        self._listen()
        self._thread = Supervised("health", self._serve)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on, or would."""
        host, port = self._listener.getsockname()[:2] if self._listener is not None else self._place
        return str(host), int(port)

    @property
    def listens(self) -> bool:
        """False as long as the address cannot be listened on."""
        return self._listener is not None

    def close(self) -> None:
        """Stop and hang up; may be called twice."""
        self._closing = True
        self._thread.join()
        for client in list(self._clients):
            self._drop(client)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._selector.close()

    def __enter__(self) -> HealthServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # The thread

    def _serve(self) -> None:
        again_s = time.monotonic() + RETRY_S
        while not self._closing:
            if self._listener is None and time.monotonic() > again_s:
                self._listen()
                again_s = time.monotonic() + RETRY_S
            self._look()

    def _listen(self) -> None:
        host, port = self._place
        try:
            try_listening(host, port, _WHAT)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                # By the address alone: create_server asks no name server for our own name, which may take seconds.
                self._listener = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
            except OSError as error:
                raise refused(host, port, _WHAT, error) from error
        except Exception as error:  # noqa: BLE001 - OutputError; whatever it is, the inspection does not depend on it
            if str(error) != self._fault:
                self._fault = str(error)
                _log.warning("%s; the station runs without, it is tried again", error)
            return
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        _log.info("metrics and health on http://%s:%d", *self.address)
        self._fault = ""

    def _look(self) -> None:
        for key, _ in self._selector.select(POLL_S):
            if key.fileobj is self._listener:
                self._accept(self._listener)
                continue
            client = self._clients.get(key.fileobj)  # type: ignore[call-overload]
            if client is not None and not client.step(self._answer):
                self._drop(client.socket)
            elif client is not None and client.answering:
                self._selector.modify(client.socket, selectors.EVENT_WRITE)
        now_s = time.monotonic()
        for client in [client for client in self._clients.values() if now_s > client.until_s]:
            self._drop(client.socket)

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no file descriptors left: the oldest client's is one
            _log.debug("a connection could not be accepted: %s", error)
            self._drop_oldest()
            time.sleep(POLL_S)
            return
        accepted.setblocking(False)
        if len(self._clients) >= MAX_CONNECTIONS:
            self._drop_oldest()
        self._clients[accepted] = _Client(accepted, time.monotonic() + CONNECTION_S)
        self._selector.register(accepted, selectors.EVENT_READ)

    def _drop_oldest(self) -> None:
        if self._clients:
            self._drop(next(iter(self._clients)))

    def _drop(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        self._clients.pop(client).socket.close()

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        try:
            return self._page(path)
        except Exception:  # noqa: BLE001 - the answer is that there is none, and the log says why
            _log.exception("the health server cannot answer %s", path)
            return 500, "text/plain; charset=utf-8", b"internal error, see the log\n"

    def _page(self, path: str) -> tuple[int, str, bytes]:
        if path in ("/healthz", "/readyz"):
            report = self._report()
            good = report.alive if path == "/healthz" else report.ready
            body = json.dumps(redact_all(asdict(report))) + "\n"
            return (200 if good else 503), "application/json", body.encode()
        if path == "/metrics" and self._metrics is not None:
            return (200, *self._metrics())
        return 404, "text/plain; charset=utf-8", b"/healthz, /readyz" + (b", /metrics\n" if self._metrics else b"\n")


class _Client:
    """One connection: what came so far, and what is still to be sent."""

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        self.socket, self.until_s = connection, until_s
        self._request, self._left = b"", memoryview(b"")
        self.answering = False

    def step(self, answer: Callable[[str], tuple[int, str, bytes]]) -> bool:
        """Read or write what is possible now; False: it is over."""
        try:
            if not self.answering:
                got = self.socket.recv(LONGEST_REQUEST)
                self._request += got
                whole = b"\r\n\r\n" in self._request or b"\n\n" in self._request
                if not got or len(self._request) > LONGEST_REQUEST:
                    return False
                if not whole:
                    return True
                self._left, self.answering = memoryview(_Handler(self._request, answer).response), True
            self._left = self._left[self.socket.send(self._left) :]
        except BlockingIOError:
            return True
        except OSError as error:
            _log.debug("a client of the health server went away: %s", error)
            return False
        return len(self._left) > 0


class _Handler(BaseHTTPRequestHandler):
    """One request (HTTP/1.0), out of bytes and into bytes."""

    server_version, sys_version = "edgead", ""

    def __init__(self, request: bytes, answer: Callable[[str], tuple[int, str, bytes]]) -> None:
        self.answer = answer
        self.rfile, self.wfile = io.BufferedReader(io.BytesIO(request)), io.BytesIO()
        self.client_address = ("client", 0)
        self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
        self.handle_one_request()
        self.response: bytes = self.wfile.getvalue()

    def do_GET(self) -> None:
        """Answer with the body."""
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without it."""
        self._respond(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def _respond(self, *, with_body: bool) -> None:
        status, kind, body = self.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)
