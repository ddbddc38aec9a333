"""A small HTTP server beside the station: /healthz (does it live), /readyz (does it give verdicts), /metrics (Prometheus).

It reads what the station already knows, takes nothing, and whoever calls it cannot hold anything up: few connections, each for
seconds only.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any

from edgead.errors import BadInput, OutputError
from edgead.runtime.redact import redact_all
from edgead.runtime.supervision import Report
from edgead.runtime.threads import Supervised

MAX_CONNECTIONS = 8
CONNECTION_S = 5.0  # from connecting to the last byte
POLL_S = 0.2  # how often overdue connections are looked for

_log = logging.getLogger("edgead.health")


class HealthServer:
    """Serves from its own threads between construction and `close`.

    ``/healthz`` answers 200 while no loop stands still, ``/readyz`` while every station gives verdicts; else 503. Both give the
    report as JSON. More than 8 connections at once are closed unanswered, and each after 5 seconds.

    Args:
        report: e.g. :meth:`edgead.runtime.supervision.Supervisor.report`.
        metrics: content type and body of ``/metrics``; None answers 404.
        host: address to listen on; the default is reached from this machine only.
        port: 0 takes a free one.

    Raises:
        OutputError: the address cannot be listened on.
        BadInput: not a port.
    """

    def __init__(
        self,
        report: Callable[[], Report],
        *,
        metrics: Callable[[], tuple[str, bytes]] | None = None,
        host: str = "127.0.0.1",
        port: int = 9108,
    ) -> None:
        if not 0 <= port <= 65535:
            raise BadInput(f"{port} is not a port", hint="0 to 65535")
        self._report, self._metrics = report, metrics
        try:
            self._server = _Server(host, port, self._answer)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"health and metrics cannot be served on {host}:{port}: {reason}",
                hint="another edgead may run already; give another host:port under supervision",
            ) from error
        self._thread = Supervised("health", partial(self._server.serve_forever, POLL_S))
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def close(self) -> None:
        """Stop and hang up; may be called twice."""
        if self._thread.alive:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> HealthServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        if path in ("/healthz", "/readyz"):
            report = self._report()
            good = report.alive if path == "/healthz" else report.ready
            body = json.dumps(redact_all(asdict(report)), ensure_ascii=False) + "\n"
            return (200 if good else 503), "application/json", body.encode()
        if path == "/metrics" and self._metrics is not None:
            return (200, *self._metrics())
        return 404, "text/plain; charset=utf-8", b"/healthz, /readyz" + (b", /metrics\n" if self._metrics else b"\n")


class _Server(HTTPServer):
    """A thread for each of a few connections, all of which are gone after `server_close`."""

    def __init__(self, host: str, port: int, answer: Callable[[str], tuple[int, str, bytes]]) -> None:
        self.answer = answer
        self._open: dict[socket.socket, tuple[Supervised, float]] = {}
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of our own name, which may take seconds where no name server answers."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                self.shutdown_request(request)
                return
            thread = Supervised("health client", partial(self._serve, request, client_address), restart=False)
            self._open[request] = (thread, time.monotonic() + CONNECTION_S)
            thread.start()

    def service_actions(self) -> None:
        """Several times a second: hang up on who takes too long."""
        now_s = time.monotonic()
        with self._lock:
            for request, (_, until_s) in self._open.items():
                if now_s > until_s:
                    _hang_up(request)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            threads = [thread for thread, _ in self._open.values()]
            for request in self._open:
                _hang_up(request)
        for thread in threads:
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a client of the health server went away", exc_info=True)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - a client's fault is not ours
            self.handle_error(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection (HTTP/1.0)."""

    server: _Server
    server_version, sys_version = "edgead", ""
    timeout = CONNECTION_S

    def do_GET(self) -> None:
        """Answer with the body."""
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without it."""
        self._respond(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def _respond(self, *, with_body: bool) -> None:
        try:
            status, kind, body = self.server.answer(self.path.partition("?")[0])
        except Exception:  # noqa: BLE001 - the answer is that there is none, and the log says why
            _log.exception("the health server cannot answer %s", self.path)
            status, kind, body = 500, "text/plain; charset=utf-8", b"internal error, see the log\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        _log.debug("a connection was gone already")
