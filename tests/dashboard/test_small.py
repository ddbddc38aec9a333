"""Shifts, following records, what people said when records begin anew, and stations of unusual kinds."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from edgead.dashboard.parts import Wish, history_of, newest
from edgead.dashboard.places import Place, read_places
from edgead.dashboard.reviews import Reviews
from edgead.dashboard.shifts import WHOLE_DAY, shift_at, shifts_of
from edgead.dashboard.tail import Tail
from edgead.runtime.records.database import ADDED, APPLICATION_ID, COLUMNS
from edgead.runtime.records.store import RecordStore
from edgead.types import Verdict
from tests.dashboard.served import Served, write_station
from tests.runtime.parts import START, record
from tests.vouched import write_vouched


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The box's own time is UTC + 1 in winter."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_vouched(tmp_path / "part.edgead")
    return read_places([write_station(tmp_path)])["line-1/top"]


def write(place: Place, ids: range, *, bad: int = 0, when: datetime = START) -> None:
    """Parts, of which each `bad`-th is NG."""
    assert place.folder is not None
    with closing(RecordStore(place.folder, station="top")) as store:
        for i in ids:
            verdict = Verdict.NG if bad and i % bad == 0 else Verdict.OK
            store.write(record(i, verdict, when=when + timedelta(seconds=i)))


@pytest.mark.parametrize(
    ("utc", "shift"),
    [
        ("2026-11-30T05:00", "2026-11-30 early"),
        ("2026-11-30T04:59", "2026-11-29 night"),
        ("2026-11-30T12:59", "2026-11-30 early"),
        ("2026-11-30T13:00", "2026-11-30 late"),
        ("2026-11-30T23:30", "2026-11-30 night"),
    ],
)
def test_a_night_shift_belongs_to_the_day_on_which_it_began(utc: str, shift: str) -> None:
    shifts = shifts_of("22:00=night, 06:00=early,14:00=late")
    when = datetime.fromisoformat(utc).replace(tzinfo=timezone.utc)
    assert shift_at(shifts, when) == shift
    assert shift_at(WHOLE_DAY, when) == when.astimezone().strftime("%Y-%m-%d")


def test_records_are_followed_as_they_are_written_also_when_a_new_file_begins(place: Place) -> None:
    tail = Tail(place, WHOLE_DAY, lambda: START + timedelta(hours=1))
    assert tail.poll() == [] and tail.last is None
    write(place, range(1, 11), bad=5)
    assert tail.poll() == [], "what was there before is counted, not told"
    assert dict(tail.counts["2026-11-22", None]) == {"OK": 8, "NG": 2} and tail.last is not None and tail.last["part_id"] == 10
    write(place, range(11, 14))
    assert [part["part_id"] for part in tail.poll()] == [11, 12, 13] and tail.poll() == []
    assert tail.counts["2026-11-22", None]["OK"] == 11
    for file in place.folder.glob("records.db*"):  # type: ignore[union-attr]
        file.unlink()
    write(place, range(20, 22))
    tail.poll()
    assert dict(tail.counts["2026-11-22", None]) == {"OK": 2}
    write(place, range(22, 24))
    assert [part["part_id"] for part in tail.poll()] == [22, 23]


def test_more_parts_than_are_read_at_once_are_told_though_nothing_follows(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgead.dashboard.tail.PAGE", 4)
    tail = Tail(place, WHOLE_DAY, lambda: START + timedelta(hours=1))
    write(place, range(1, 2))
    tail.poll()
    write(place, range(2, 12))  # and then the line stops
    assert [part["part_id"] for _ in range(3) for part in tail.poll()] == list(range(2, 12))
    assert tail.last is not None and tail.last["part_id"] == 11


def test_parts_of_yesterday_are_not_counted_today(place: Place) -> None:
    write(place, range(1, 6), when=START - timedelta(hours=30))
    write(place, range(6, 9))
    tail = Tail(place, WHOLE_DAY, lambda: START + timedelta(hours=1))
    tail.poll()
    assert {key[0]: dict(found) for key, found in tail.counts.items()} == {"2026-11-22": {"OK": 3}}


def test_what_was_said_of_a_part_is_not_said_of_one_with_its_number_in_a_new_file(place: Place) -> None:
    write(place, range(1, 3))
    reviews = Reviews.of(place)
    with history_of(place) as history:
        row = newest(history, place, Wish(), 1)[0]
    with reviews.changing(START, "anna", "operator", "review", place.id) as change:
        change.review("top", row, "missed_defect", "", "anna", START)
    assert reviews.noted(place, [row])[row["seq"]]["who"] == "anna"
    assert reviews.noted(place, [{**row, "time": "2027-01-01"}]) == {}


def test_a_change_that_fails_leaves_no_line_in_the_log(place: Place) -> None:
    write(place, range(1, 2))
    reviews = Reviews.of(place)
    with pytest.raises(ZeroDivisionError), reviews.changing(START, "anna", "engineer", "threshold", place.id):
        raise ZeroDivisionError
    assert reviews.audit(10) == []


def test_without_a_place_for_the_log_nothing_is_changed(tmp_path: Path, place: Place) -> None:
    write(place, range(1, 3), bad=1)
    (tmp_path / "data/dashboard.db").mkdir()
    with Served(tmp_path / "station.yaml") as served:
        client = served.client()
        assert client.post("/api/part/line-1/top/1/review", {"label": "confirmed"})[0] == 409
        before = (tmp_path / "part.edgead/manifest.json").read_bytes()
        status, told = client.post("/api/threshold", {"camera": "line-1/top", "threshold": 210.0})
        assert status == 409 and "dashboard.db" in told["error"]
        assert (tmp_path / "part.edgead/manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"threshold": 210.0}, "the station's own threshold"),
        ({"sha256": "0" * 64}, "digest"),
        ({"trusted": True}, "signed"),
        (
            {
                "plc": {"type": "modbus-client", "host": "127.0.0.1", "threshold": {"min": 100, "max": 250, "address": 40}},
                "trigger": {"source": "plc"},
                "budget_ms": 100,
            },
            "the PLC gives the threshold",
        ),
    ],
)
def test_a_threshold_that_the_station_would_not_take_is_not_written(tmp_path: Path, more: dict[str, object], words: str) -> None:
    write_vouched(tmp_path / "part.edgead")
    trusted = more.pop("trusted", False)
    station = write_station(tmp_path, **more)
    if trusted:
        station.write_text(station.read_text() + "trusted: [line.pub]\n")
    with Served(station) as served:
        client = served.client()
        before = (tmp_path / "part.edgead/manifest.json").read_bytes()
        status, told = client.post("/api/threshold", {"camera": "line-1/top", "threshold": 215.0})
        assert status == 409 and words in told["error"]
        assert words in client.get("/api/scores?camera=line-1/top")["why_not"]
        assert (tmp_path / "part.edgead/manifest.json").read_bytes() == before


def test_the_plc_s_recipe_is_the_plc_s_to_change(tmp_path: Path) -> None:
    write_vouched(tmp_path / "a.edgead")
    station = tmp_path / "station.yaml"
    camera = {
        "name": "top", "address": "sim", "recipes": {1: "a.edgead"}, "recipe_file": "recipe.txt", "budget_ms": 100,
        "trigger": {"source": "plc"}, "plc": {"type": "modbus-client", "host": "127.0.0.1"},
    }  # fmt: skip
    station.write_text(yaml.safe_dump({"name": "line-1", "cameras": [camera], "storage": {"folder": "data"}}))
    with Served(station) as served:
        client = served.client()
        assert client.post("/api/recipe", {"camera": "line-1/top", "recipe": 1}) == (
            409, {"error": "the PLC chooses the recipe", "hint": ""},
        )  # fmt: skip
    assert not (tmp_path / "recipe.txt").exists()


def test_a_station_without_records_and_one_that_never_ran_are_shown_as_they_are(tmp_path: Path) -> None:
    write_vouched(tmp_path / "part.edgead")
    station = tmp_path / "station.yaml"
    part = {"name": "housing", "cameras": ["top", "side"], "budget_ms": 100, "trigger": {"source": "interval", "every_ms": 100}}
    cameras = [{"name": name, "address": "sim", "bundle": "part.edgead"} for name in ("top", "side")]
    station.write_text(yaml.safe_dump({"name": "line-1", "cameras": cameras, "parts": [part]}))
    with Served(station) as served:
        client = served.client()
        found = {one["name"]: one for one in client.get("/api/line")["stations"][0]["cameras"]}
        assert {one["state"] for one in found.values()} == {"unreachable"} and found["housing"]["bundle"] == ""
        assert "supervision.live is not set" in found["top"]["fault"]
        assert client.get("/api/parts") == {"parts": [], "more": False}
        for path in ("scores", "threshold/history", "recipes"):
            assert client.ask(f"/api/{path}?camera=line-1/top")[0] == 200
            assert client.ask(f"/api/{path}?camera=line-1/housing")[0] in (200, 409)
        assert client.ask("/api/replay?camera=line-1/top&threshold=1")[0] == 400
        assert client.ask("/api/export")[0] == 404
        status, told = client.post("/api/threshold", {"camera": "line-1/top", "threshold": 210.0})
        assert status == 200 and told["also"] == ["line-1/side"], "it has the same bundle"
        assert client.get("/api/audit")[0]["new"] == "210", "beside the station's file"


def test_records_of_an_older_edgead_are_shown(tmp_path: Path, place: Place) -> None:
    columns = {name: kind for name, kind in COLUMNS.items() if name not in ADDED}
    assert place.folder is not None
    place.folder.mkdir(parents=True)
    with closing(sqlite3.connect(place.folder / "records.db")) as old, old:
        told = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        old.executescript(f"CREATE TABLE records ({told}); PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
        values = {"run": 1, "part_id": 7, "time": "2026-11-22T06:00:00.000+00:00", "recorded_ns": 1, "verdict": "NG", "cause": "",
                  "score": 3.0, "threshold": 2.0, "engine": "openvino-int8"}  # fmt: skip
        old.execute(f"INSERT INTO records ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))
    with Served(tmp_path / "station.yaml") as served:
        client = served.client()
        part = client.get("/api/parts")["parts"][0]
        assert (part["score"], part["level"], part["statistic"]) == (3.0, None, None)
        assert client.get("/api/part/line-1/top/1")["rule"] == ""
        assert sum(client.get("/api/scores?camera=line-1/top")["NG"]) == 1
        assert client.ask("/api/replay?camera=line-1/top&threshold=1")[0] == 400
