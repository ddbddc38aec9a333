"""What a station tells, and what becomes of it: nothing old looks new, and no path of the box reaches a browser."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import threading
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.dashboard.export import Labelled, write_zip
from tests.dashboard.client import Client
from tests.dashboard.served import PASSWORD, Served, write_people, write_station
from tests.dashboard.test_attacks import whole
from tests.vouched import write_vouched
from tests.waiting import until

LIVE = "/api/live/line-1/top.jpg"


class Told:
    """A dashboard, and a station that tells it what a test says."""

    def __init__(self, served: Served, live: Path) -> None:
        self.served, self.client, self._live = served, served.client(), live

    def tell(self, message: dict[str, Any], picture: bytes = b"") -> None:
        (path,) = self._live.glob("*.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.sendto(json.dumps(message).encode() + (b"\n" + picture if picture else b""), str(path))

    def camera(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/api/line")["stations"][0]["cameras"][0]
        return found


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    write_vouched(tmp_path / "part.edgead")
    station = write_station(tmp_path)
    station.write_text(station.read_text() + "supervision: {live: live}\n")
    with Served(station) as served:
        yield Told(served, tmp_path / "live")


def part(number: int) -> dict[str, Any]:
    numbers = dict.fromkeys(("score", "threshold", "statistic", "level", "total_ms"), 1.0)
    time = datetime.now(timezone.utc).isoformat()
    return {"part_id": number, "time": time, "verdict": "OK", "cause": "", "engine": "e", **numbers}


def test_a_part_that_was_late_once_is_no_fault_for_ever(told: Told) -> None:
    def latency(late: int) -> dict[str, Any]:
        told.tell(whole(late={"inference": late}, latency_ms={"p50": 1.0, "p95": 2.0, "p99": 3.0}))
        until(lambda: (told.camera()["latency"] or {}).get("misses") == {"inference": late})
        checks: list[dict[str, Any]] = told.client.get("/api/health")["checks"]
        return next(check for check in checks if check["name"] == "latency")

    assert latency(0)["ok"]
    assert not latency(1)["ok"]
    told.served.pass_time(0.1)
    assert not latency(1)["ok"], "six minutes ago"
    told.served.pass_time(0.1)
    found = latency(1)
    assert found["ok"] and "1 late, none of them in the last 10 min" in found["words"]
    assert not latency(2)["ok"]


def test_a_picture_of_before_a_start_is_not_shown_with_the_parts_after_it(told: Told) -> None:
    head = {"v": 1, "kind": "picture", "station": "line-1", "camera": "top", "part_id": 3, "overlay": False}
    told.tell(whole(parts=[part(3)]))
    told.tell(head, b"jpeg")
    until(lambda: told.client.ask(LIVE)[0] == 200)
    told.tell(whole(parts=[part(4)]))
    until(lambda: told.camera()["last"]["part_id"] == 4)
    assert told.client.ask(LIVE)[0] == 200
    told.tell(whole(parts=[part(1)]))  # its third part will be another one
    until(lambda: told.camera()["last"]["part_id"] == 1)
    assert told.client.ask(LIVE)[0] == 404


def test_browsers_see_names_of_files_and_not_where_they_lie(told: Told, tmp_path: Path) -> None:
    told.tell(
        whole(notices={"threshold": f"it was refused: {tmp_path}/part.edgead has none, see {tmp_path}/data/top/records.db"})
    )
    until(lambda: told.camera()["state"] == "ok")
    assert told.camera()["notices"] == {"threshold": "it was refused: part.edgead has none, see top/records.db"}
    shutil.rmtree(tmp_path / "part.edgead")
    answers = [
        told.client.post("/api/threshold", {"camera": "line-1/top", "threshold": 210.0})[1],
        told.client.post("/api/threshold/undo", {"camera": "line-1/top"})[1],
        json.loads(told.client.ask("/api/scores?camera=line-1/top")[1]),
        told.client.get("/api/recipes?camera=line-1/top"),
        told.client.get("/api/health"),
    ]
    for answer in answers:
        assert str(tmp_path) not in json.dumps(answer)
    assert "part.edgead" in answers[0]["error"] and answers[-1]["disk"]["line-1"]["folder"] == "data"


def test_a_password_that_is_no_text_is_a_wrong_one(told: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Served(tmp_path / "station.yaml", write_people(tmp_path)[0]) as served:
        assert served.client().post("/api/login", {"name": "vera\nroot", "password": "\ud800" * 12})[0] == 401
        assert served.client().post("/api/login", {"name": "vera", "password": PASSWORD})[0] == 200
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "a wrong password, from 127.0.0.1, as vera root")
    ]


def test_pictures_of_a_box_whose_clock_stood_at_its_beginning_are_exported(tmp_path: Path) -> None:
    file = tmp_path / "1.png"
    cv2.imwrite(str(file), np.zeros((4, 4, 3), np.uint8))
    os.utime(file, (0, 0))
    out = BytesIO()
    write_zip(out, "mvtec", [Labelled("line-1", "top", {"seq": 1, "verdict": "NG"}, "confirmed", file)])
    assert zipfile.ZipFile(out).namelist() == ["test/defect/line-1_top_00000001.png"]


def test_a_stop_ends_a_request_that_takes_long_and_a_stream_that_nobody_reads_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(board: Any, ask: Any) -> dict[str, Any]:
        if ask.text("fill"):
            for _ in range(40):
                board.hub.tell("part", "x" * 1_000_000)
            return {}
        begun.set()
        go_on.wait()
        return {}

    monkeypatch.setattr("edgead.dashboard.serving.GRACE_S", 0)
    monkeypatch.setattr("edgead.dashboard.app.ANSWERS", [("GET", "/api/line", "viewer", slow)])
    write_vouched(tmp_path / "part.edgead")
    with Served(write_station(tmp_path)) as served:
        client = Client(served.url)
        with client.stream() as stream:
            stream.next("hello")
            client.get("/api/line?fill=1")
            until(lambda: any(getattr(one, "_stalled", None) for one in served.connections()), what="the stream to be full")
            asking = threading.Thread(target=lambda: Client(served.url).ask("/api/line"))
            asking.start()
            begun.wait()
            served.stop()
            until(lambda: any("graceful" in record.getMessage() for record in caplog.records), what="the grace to be over")
            go_on.set()
            asking.join()
    assert [record for record in caplog.records if record.exc_info] == []
    assert {record.name for record in caplog.records if record.levelno >= logging.ERROR} == {"uvicorn.error"}
