"""What a hostile page, browser, picture name or bundle may try."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from edgead.dashboard.guard import MOST_BYTES
from edgead.dashboard.serving import MOST
from edgead.runtime.records.store import RecordStore
from tests.dashboard.served import Served, write_people, write_station
from tests.runtime.parts import record
from tests.vouched import write_vouched

SCRIPT = "<script>alert(1)</script>"
SECRET = b"root:x:0:0"


@pytest.fixture
def station(tmp_path: Path) -> Path:
    write_vouched(tmp_path / "part.edgead", name=SCRIPT)
    return write_station(tmp_path)


def write_records(folder: Path, *pictures: Path) -> None:
    """A part for each, whose record names this as its picture."""
    with closing(RecordStore(folder / "data/top", station="top")) as store:
        for i, picture in enumerate(pictures, 1):
            store.write({**record(i), "verdict": "NG", "cause": SCRIPT})
            store.attach(i, picture, picture)


def test_only_pictures_that_the_station_saved_are_served_whatever_a_record_names(station: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(SECRET)
    pictures = tmp_path / "data/top/pictures"
    pictures.mkdir(parents=True)
    (pictures / "link.png").symlink_to(secret)
    (pictures / "users.json").write_bytes(SECRET)
    (pictures / "good.png").write_bytes(b"a picture")
    (tmp_path / "data/top/other.png").write_bytes(SECRET)
    names = [
        secret,
        pictures / "../other.png",
        pictures / "link.png",
        pictures / "users.json",
        Path("/etc/passwd"),
        pictures,
        Path(".."),
    ]
    write_records(tmp_path, *names, pictures / "good.png")
    with Served(station) as served:
        client = served.client()
        for seq in range(1, len(names) + 1):
            for which in ("picture", "overlay"):
                status, body = client.ask(f"/api/part/line-1/top/{seq}/{which}")
                assert status == 404 and SECRET not in body, names[seq - 1]
        assert client.ask(f"/api/part/line-1/top/{len(names) + 1}/picture") == (200, b"a picture")
        told = client.get("/api/parts?limit=100")["parts"]
        assert [one["seq"] for one in told if one["picture"]] == [len(names) + 1]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/....//app.py",
        "/static/%00",
        "/static/" + "a" * 5000,
        "/api/part/line-1/top/1/../../../../users.json",
        "/api/part/line-1/..%2f..%2ftop/1/picture",
        "/api/part/line-1/top/1%00/picture",
        "/api/live/line-1/..%2f..%2f..%2fetc%2fpasswd.jpg",
        "/proof/line-1/%3Cscript%3E",
        "/docs",
        "/openapi.json",
    ],
)
def test_paths_that_lead_elsewhere_lead_nowhere(station: Path, path: str) -> None:
    with Served(station) as served:
        client = served.client()
        status, body = client.ask(path)
        assert status in (400, 404) and b"import" not in body and SECRET not in body
        assert client.headers["content-type"] == "application/json", "no name is ever part of a page"


def test_names_with_scripts_in_them_are_text_everywhere(station: Path, tmp_path: Path) -> None:
    """The product's name comes from a bundle, a cause from a driver, a note from a user."""
    write_records(tmp_path, tmp_path / "x.png")
    with Served(station) as served:
        client = served.client()
        status, page = client.ask("/proof/line-1/top")
        assert status == 200 and b"<script" not in page and b"&lt;script&gt;" in page
        assert client.post("/api/part/line-1/top/1/review", {"label": "confirmed", "note": SCRIPT})[0] == 200
        client.ask("/api/parts")
        assert client.headers["content-type"] == "application/json" and client.headers["x-content-type-options"] == "nosniff"
        assert client.ask(f"/api/parts?verdict={SCRIPT}".replace("<", "%3C").replace(">", "%3E"))[0] == 400
        assert client.headers["content-type"] == "application/json"


FOREIGN: list[tuple[dict[str, str], int]] = [
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "https://127.0.0.1"}, 403),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),  # a name server that says 127.0.0.1
    ({"Host": "localhost.evil.example"}, 403),
    ({"Host": "127.0.0.1.evil.example"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"X-CSRF": "guessed"}, 403),
    ({"X-CSRF": ""}, 403),
    ({"Content-Type": "text/plain"}, 400),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 400),
]


@pytest.mark.parametrize(("headers", "status"), FOREIGN, ids=str)
def test_other_sites_change_nothing(station: Path, tmp_path: Path, headers: dict[str, str], status: int) -> None:
    write_records(tmp_path, tmp_path / "x.png")
    with Served(station) as served:
        client = served.client()
        assert client.post("/api/part/line-1/top/1/review", {"label": "confirmed"}, headers)[0] == status
        assert client.get("/api/audit") == []


def test_other_sites_and_names_read_nothing(station: Path) -> None:
    with Served(station, names=["line.example"]) as served:
        client = served.client()
        assert client.ask("/api/line", headers={"Host": "evil.example"})[0] == 403
        assert client.ask("/api/line", headers={"Origin": "http://evil.example"})[0] == 403
        assert client.ask("/api/line", headers={"Host": "line.example:8080"})[0] == 200
        assert client.ask("/api/line", headers={"Host": "[::1]:80"})[0] == 200
        client.ask("/api/line")
        assert "access-control-allow-origin" not in client.headers
        assert client.headers["cross-origin-resource-policy"] == "same-origin" and client.headers["x-frame-options"] == "DENY"


def test_a_session_s_token_of_changes_is_its_own(station: Path, tmp_path: Path) -> None:
    with Served(station, write_people(tmp_path)[0]) as served:
        erna, otto = served.client("erna"), served.client("otto")
        stolen = otto.get("/api/session")["csrf"]
        assert erna.post("/api/logout", {}, {"X-CSRF": stolen})[0] == 403
        assert erna.get("/api/session")["user"] == "erna"


@pytest.mark.parametrize(
    "body",
    [b"{" * 50_000, b"[" * 60_000, b"\xff\xfe", b"null", b'"x"', b'{"label": {}}', b'{"label": "confirmed", "note": 3}',
     b'{"label": "confirmed", "note": "' + b"x" * 600 + b'"}', b'{"camera": 1e400}'],
    ids=range(9),
)  # fmt: skip
def test_bodies_that_are_no_question_are_refused_in_one_line(station: Path, tmp_path: Path, body: bytes) -> None:
    write_records(tmp_path, tmp_path / "x.png")
    with Served(station) as served:
        client = served.client()
        told = {"Content-Type": "application/json", "X-CSRF": client.get("/api/session")["csrf"]}
        for path in ("/api/part/line-1/top/1/review", "/api/threshold", "/api/recipe", "/api/login"):
            status, answer = client.ask(path, "POST", body, told)
            assert 400 <= status < 500 and json.loads(answer)["error"], (path, status, answer)
        assert client.get("/api/audit") == []


def test_oversized_bodies_are_not_read(station: Path) -> None:
    with Served(station) as served:
        client = served.client()
        told = {"Content-Type": "application/json", "X-CSRF": client.get("/api/session")["csrf"]}
        assert client.ask("/api/login", "POST", b" " * (MOST_BYTES + 1), told)[0] == 413
        host, port = client.host.split(":")
        with socket.create_connection((host, int(port))) as one:  # chunked: no length is told
            head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
            one.sendall(f"POST /api/login HTTP/1.1\r\nHost: {client.host}\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
            for _ in range(3):
                one.sendall(chunk)
            assert b" 413 " in one.recv(1000)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_other_methods_are_refused(station: Path, method: str) -> None:
    with Served(station) as served:
        assert served.client().ask("/api/line", method)[0] == 405


def test_a_thousand_idle_connections_keep_nobody_out(station: Path) -> None:
    with Served(station) as served, ExitStack() as stack:
        client = served.client()
        host, port = client.host.split(":")
        for i in range(1000):
            one = stack.enter_context(socket.create_connection((host, int(port))))
            if i % 2:
                one.sendall(b"GET /api/line HTTP/1.1\r\nHost: ")  # and never the rest
        assert client.get("/api/line")["stations"]
        assert client.get("/api/session")["role"] == "engineer"
        assert len(served.connections()) <= MOST + 1


def test_a_request_that_never_ends_is_given_up(station: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgead.dashboard.serving.REQUEST_S", 0.05)
    monkeypatch.setattr("edgead.dashboard.app.BODY_S", 0.05)
    with Served(station) as served:
        client = served.client()
        host, port = client.host.split(":")
        csrf = client.get("/api/session")["csrf"]
        with socket.create_connection((host, int(port))) as one:
            one.sendall(b"GET / HTTP/1.1\r\n")
            assert one.recv(100) == b"", "it was hung up"
        with socket.create_connection((host, int(port))) as one:
            head = f"Host: {client.host}\r\nContent-Type: application/json\r\nX-CSRF: {csrf}\r\nContent-Length: 50\r\n"
            one.sendall(f"POST /api/login HTTP/1.1\r\n{head}\r\n{{".encode())
            assert b" 408 " in one.recv(1000)


def test_a_stream_ends_with_its_session(station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgead.dashboard.events.KEEP_S", 0.05)
    with Served(station, write_people(tmp_path)[0]) as served:
        client = served.client("vera")
        with client.stream() as stream:
            stream.next("hello")
            served.pass_time(9)
            assert stream.ended()


def whole(**more: Any) -> dict[str, Any]:
    """As a station tells it, but for `more`."""
    texts = dict.fromkeys(("version", "state", "fault", "device"), "ok")
    tables: dict[str, Any] = {
        name: {} for name in ("notices", "queues", "devices", "threads", "verdicts", "causes", "late", "latency_ms", "disk")
    }
    return {"v": 1, "kind": "state", "station": "line-1", "camera": "top", "parts": [], **texts, **tables, **more}


DATAGRAMS: list[Any] = [
    b"", b"\n", b"{", b"[]", b"null", b"\xff\x00", b"[" * 100_000, {"v": 1}, {"v": 2, "kind": "state"},
    {"v": 1, "kind": "state", "station": "x", "camera": "y"},
    {"v": 1, "kind": "state", "station": [], "camera": {}}, {"v": 1, "kind": "state", "station": "line-1", "camera": "top"},
    {"v": 1, "kind": "state", "station": "line-1", "camera": "top", "parts": [3]},
    {"v": 1, "kind": "state", "station": "line-1", "camera": "top", "parts": [], "state": 5},
    {"v": 1, "kind": "picture", "station": "line-1", "camera": "top"},
    whole(), whole(disk={"free_mb": "much"}), whole(notices={"a": ["b"]}), whole(verdicts={"OK": {}}), whole(recipe="1"),
    whole(threshold=float("nan")), whole(latency_ms={"p50": 1.0}), whole(parts=[{"part_id": "x"}]), whole(devices={"plc": 3}),
    whole(parts={"a": 1}),
]  # fmt: skip


def test_whatever_comes_through_the_folder_of_stations_the_dashboard_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Programs of this machine that may write there could send anything."""
    write_vouched(tmp_path / "part.edgead")
    station = write_station(tmp_path)
    station.write_text(station.read_text() + "supervision: {live: live}\n")
    with Served(station) as served, caplog.at_level(logging.ERROR):
        sockets = list((tmp_path / "live").glob("*.sock"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.settimeout(10)
            for told in DATAGRAMS:
                one.sendto(told if isinstance(told, bytes) else json.dumps(told).encode(), str(sockets[0]))
                assert served.client().get("/api/line")["stations"]
                assert served.client().get("/api/health")["checks"]
    assert caplog.records == []
