"""The HTTP server: right answers, and no client can hold anything up."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from edgead.errors import BadInput
from edgead.runtime.supervision import health as health_module
from edgead.runtime.supervision.health import MAX_CONNECTIONS, HealthServer
from edgead.runtime.supervision.logs import Formatter
from edgead.runtime.supervision.supervisor import Report
from tests.waiting import PATIENCE_S, until

GOOD = Report(True, True, "", {"line": {"state": "ready"}})


class Probe:
    """What the server asks."""

    def __init__(self) -> None:
        self.report = GOOD

    def __call__(self) -> Report:
        return self.report


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def server(probe: Probe) -> Iterator[HealthServer]:
    with HealthServer(probe, metrics=lambda: ("text/plain; version=1", b"edgead_up 1\n"), port=0) as running:
        yield running


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    host, port = server.address
    request = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_it_answers_what_is_so(server: HealthServer, probe: Probe) -> None:
    assert server.address[0] == "127.0.0.1"
    status, kind, body = get(server, "/healthz")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"alive": True, "ready": True, "reason": "", "stations": {"line": {"state": "ready"}}}
    assert get(server, "/metrics") == (200, "text/plain; version=1", "edgead_up 1\n")
    probe.report = Report(True, False, "line: camera rtsp://user:s3cret@host/x is lost", {})
    assert get(server, "/healthz")[0] == 200
    status, _, body = get(server, "/readyz?verbose=1")
    assert status == 503
    assert json.loads(body)["reason"] == "line: camera rtsp://***@host/x is lost"
    probe.report = Report(False, False, "line: no progress for 12 s", {})
    assert get(server, "/healthz")[0] == 503
    assert get(server, "/healthz", "HEAD")[::2] == (503, "")


def test_it_tells_nothing_else(server: HealthServer, probe: Probe) -> None:
    for path in ("/", "/../../etc/passwd", "/metrics/"):
        status, _, body = get(server, path)
        assert (status, body) == (404, "/healthz, /readyz, /metrics\n")
    assert get(server, "/healthz", "POST")[0] == 501
    with HealthServer(probe, port=0) as bare:
        assert get(bare, "/metrics")[0] == 404


def test_a_fault_of_ours_is_an_answer_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Report:
        raise RuntimeError("odd")

    with HealthServer(broken, port=0) as server:
        assert get(server, "/healthz")[0] == 500
    assert "odd" in caplog.text


def test_clients_that_hang_are_few_and_hung_up_on(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "CONNECTION_S", 0.5)
    with HealthServer(probe, port=0) as server:
        clients = [socket.create_connection(server.address) for _ in range(MAX_CONNECTIONS + 4)]
        for client in clients[:4]:
            client.sendall(b"GET /healthz HTTP/1.0\r\nX-Slow: ")  # and never the rest
        for client in clients:
            client.settimeout(PATIENCE_S)
            with suppress(ConnectionResetError):
                assert client.recv(100) == b""  # closed, surplus ones at once
            client.close()
        assert get(server, "/healthz")[0] == 200


def test_whoever_asks_is_answered_beside_any_number_of_idle_connections(server: HealthServer) -> None:
    idle = [socket.create_connection(server.address) for _ in range(5 * MAX_CONNECTIONS)]
    assert get(server, "/healthz")[0] == 200
    for client in idle:
        client.close()


def test_a_machine_without_a_thread_to_spare_is_answered(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoThreads(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", NoThreads)
    for _ in range(2 * MAX_CONNECTIONS):
        assert get(server, "/readyz")[0] == 200


def test_a_client_that_reads_nothing_does_not_delay_the_end(probe: Probe) -> None:
    server = HealthServer(probe, metrics=lambda: ("text/plain", bytes(50_000_000)), port=0)
    client = socket.create_connection(server.address)
    client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert client.recv(10) == b"HTTP/1.0 2"
    server.close()
    server.close()
    client.close()


def test_garbage_is_no_trouble(server: HealthServer) -> None:
    with socket.create_connection(server.address) as client:
        client.settimeout(PATIENCE_S)
        client.sendall(bytes(range(256)) * 4 + b"\r\n\r\n")
        client.recv(1000)
    assert get(server, "/healthz")[0] == 200


def test_an_address_in_use_is_told_and_listened_on_as_soon_as_it_is_free(
    probe: Probe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "RETRY_S", 0.05)
    with HealthServer(probe, port=0) as first:
        port = first.address[1]
        second = HealthServer(probe, port=port)
        assert not second.listens and second.address == ("127.0.0.1", port)
    try:
        shown = Formatter().format(caplog.records[0])
        assert f"127.0.0.1:{port}: Address already in use" in shown and shown.count("another program listens there") == 1
        until(lambda: second.listens)
        assert get(second, "/readyz")[0] == 200
        assert caplog.text.count("Address already in use") == 1
    finally:
        second.close()


@pytest.mark.parametrize("given", [{"port": 70000}, *({"host": host} for host in ("not a host", "10.0.0.256", "", "::zz"))])
def test_what_can_never_be_an_address_is_refused(probe: Probe, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        HealthServer(probe, **given)
