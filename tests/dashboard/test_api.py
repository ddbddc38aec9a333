"""The dashboard beside a station that runs: what its pages are told, and what they may change."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import cv2
import numpy as np
import pytest

from tests.dashboard.client import Client
from tests.dashboard.watched import SCORES, Watched
from tests.vouched import picture
from tests.waiting import until

TOP = "camera=line-1/top"


@pytest.fixture(scope="module")
def line() -> Iterator[Watched]:
    watched = Watched(selfcheck=None)
    try:
        watched.start()
        yield watched
    finally:
        watched.close()


@pytest.fixture
def client(line: Watched) -> Client:
    return Client(line.url)


def rows(line: Watched, ask: str) -> list[Any]:
    """Of the station's own records."""
    with closing(sqlite3.connect(f"file:{line.records}?mode=ro", uri=True)) as connection:
        return connection.execute(ask).fetchall()


def rejected(client: Client, **more: str) -> Any:
    """The newest NG part with a picture."""
    found: list[Any] = []

    def there() -> bool:
        query = "&".join(f"{name}={value}" for name, value in {"verdict": "NG", "limit": "30", **more}.items())
        found[:] = [one for one in client.get(f"/api/parts?{TOP}&{query}")["parts"] if one["picture"] and one["overlay"]]
        return bool(found)

    until(there, what="an NG part with its picture")
    return found[0]


def test_without_users_on_loopback_everybody_is_an_engineer(client: Client) -> None:
    session = client.get("/api/session")
    assert (session["user"], session["role"], session["login"], session["kiosk"]) == ("local", "engineer", False, False)
    policy = client.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert client.headers["cache-control"] == "no-store" and client.headers["x-content-type-options"] == "nosniff"


def test_the_line_is_shown_as_it_is_now(client: Client) -> None:
    camera = Watched.camera(client)
    assert (camera["id"], camera["bundle"], camera["engine"]) == ("line-1/top", "part.edgead", "onnxruntime-fp32")
    assert (camera["state"], camera["camera"], camera["budget_ms"]) == ("ready", "ok", 5000.0)
    assert (camera["threshold"], camera["rule"]) == (200.0, "NG at score 200 and above")
    until(lambda: Watched.camera(client)["counters"]["NG"] > 0)
    camera = Watched.camera(client)
    told = camera["counters"]
    assert camera["yield"] == pytest.approx(told["OK"] / sum(told.values()))
    assert camera["latency"]["p99"] > 0 and camera["disk"]["records_lost"] == 0


def test_events_tell_each_part_and_what_changes_of_the_camera(client: Client) -> None:
    with client.stream() as stream:
        assert stream.next("hello") == {}
        first = stream.next("part")
        while first["verdict"] != "OK":
            first = stream.next("part")
        while (part := stream.next("part"))["verdict"] != "NG":
            assert part["seq"] > first["seq"]
        assert part["score"] in SCORES and part["id"] == "line-1/top"
        assert stream.next("line")["state"] == "ready"


def test_the_live_picture_is_a_small_jpeg_with_or_without_the_heat_map(client: Client) -> None:
    for overlay in (0, 1):
        until(lambda n=overlay: client.ask(f"/api/live/line-1/top.jpg?overlay={n}")[0] == 200)
        status, data = client.ask(f"/api/live/line-1/top.jpg?overlay={overlay}")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert status == 200 and max(image.shape) <= 640 and client.headers["content-type"] == "image/jpeg"
    assert client.ask("/api/live/line-1/none.jpg")[0] == 404


def test_a_rejected_part_is_shown_with_the_camera_s_picture_and_why(client: Client) -> None:
    part = rejected(client)
    base = f"/api/part/line-1/top/{part['seq']}"
    status, data = client.ask(f"{base}/picture")
    assert status == 200 and client.headers["content-type"] == "image/png"
    seed = {214.0: 1, 226.0: 4, 242.0: 8}[part["score"]]
    assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) == picture(seed, True)).all()
    assert client.ask(f"{base}/overlay")[0] == 200 and client.headers["content-type"] == "image/jpeg"
    whole = client.get(base)
    assert "at or above the threshold" in whole["why"][0] and whole["rule"] == "NG at score 200 and above"
    assert client.ask("/api/part/line-1/top/99999999")[0] == 404


def test_parts_are_found_by_verdict_score_and_page(client: Client) -> None:
    until(lambda: len(client.get(f"/api/parts?{TOP}&verdict=NG&limit=5")["parts"]) == 5)
    first = client.get(f"/api/parts?{TOP}&limit=5")
    assert first["more"] and [one["seq"] for one in first["parts"]] == sorted((p["seq"] for p in first["parts"]), reverse=True)
    second = client.get(f"/api/parts?{TOP}&limit=5&before={first['parts'][-1]['seq']}")
    assert second["parts"][0]["seq"] == first["parts"][-1]["seq"] - 1
    between = client.get(f"/api/parts?{TOP}&score_min=220&score_max=230")["parts"]
    assert {one["score"] for one in between} == {226.0}
    assert client.get(f"/api/parts?{TOP}&verdict=UNKNOWN")["parts"] == []
    days = client.get("/api/days?month=2000-01")["days"]
    assert days == {}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"/api/parts?{TOP}&verdict=BAD", "verdict"),
        (f"/api/parts?{TOP}&limit=0", "limit"),
        (f"/api/parts?{TOP}&before=1e9", "before"),
        (f"/api/parts?{TOP}&score_min=nan", "score_min"),
        (f"/api/parts?{TOP}&from=yesterday", "from"),
        ("/api/parts?camera=line-1/../top", "camera"),
        ("/api/days?month=2026-13", "month"),
        (f"/api/replay?{TOP}", "threshold"),
        (f"/api/replay?{TOP}&threshold=inf", "threshold"),
        ("/api/scores", "camera"),
        (f"/api/export?{TOP}&format=exe", "format"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_in_one_line(client: Client, path: str, words: str) -> None:
    status, body = client.ask(path)
    told = json.loads(body)
    assert status in (400, 404) and words in told["error"] and "\n" not in told["error"] and "hint" in told


def test_what_people_say_of_a_part_stays_beside_the_records_and_comes_back(line: Watched, client: Client) -> None:
    part = rejected(client)
    tables = rows(line, "SELECT name FROM sqlite_master ORDER BY name")
    path = f"/api/part/line-1/top/{part['seq']}/review"
    status, told = client.post(path, {"label": "false_reject", "note": "a hair <b>on it</b>"})
    assert status == 200 and told["reviewed"]["label"] == "false_reject" and told["reviewed"]["who"] == "local"
    found = client.get(f"/api/parts?{TOP}&reviewed=yes")["parts"]
    assert [one["seq"] for one in found] == [part["seq"]] and found[0]["reviewed"]["note"] == "a hair <b>on it</b>"
    assert part["seq"] not in {one["seq"] for one in client.get(f"/api/parts?{TOP}&reviewed=no&limit=500")["parts"]}
    assert client.get("/api/audit")[0]["what"] == "review"
    assert rows(line, "SELECT name FROM sqlite_master ORDER BY name") == tables, "the station's records are its own"
    assert client.post(path, {"label": "missed_defect"})[0] == 409, "it was NG: nothing was missed"
    assert client.post(path, {"label": "perfect"})[0] == 400
    status, told = client.post(path, {"label": None})
    assert status == 200 and told["reviewed"] is None


def test_replay_says_what_a_recount_of_the_records_says(line: Watched, client: Client) -> None:
    until(lambda: rows(line, "SELECT count(*) FROM records WHERE verdict = 'NG'")[0][0] > 10)
    told = client.get(f"/api/replay?{TOP}&threshold=220.5&since=7d")
    upto = rows(line, f"SELECT score, verdict FROM records WHERE time <= '{told['to']}' AND score IS NOT NULL")
    then = Counter("NG" if score >= 220.5 else "OK" for score, _ in upto)
    assert told["then"] == {"OK": then["OK"], "NG": then["NG"], "UNKNOWN": 0}
    assert told["now"]["NG"] == sum(verdict == "NG" for _, verdict in upto)
    assert told["changed_n"] == sum(200 <= score < 220.5 for score, _ in upto) > 0
    assert {(one["score"], one["verdict"], one["would"]) for one in told["changed"]} == {(214.0, "NG", "OK")}
    scores = client.get(f"/api/scores?{TOP}&since=7d")
    assert len(scores["edges"]) == len(scores["NG"]) + 1 and scores["threshold"] == 200.0
    assert sum(map(sum, (scores["OK"], scores["NG"], scores["UNKNOWN"]))) == scores["parts"] > 0
    assert "no guarantee" in scores["guarantee"] and "0.1 % needs 999 more good pictures" in scores["more_good"]


def test_a_new_threshold_judges_the_next_parts_and_is_taken_back(line: Watched, client: Client) -> None:
    before = Watched.camera(client)["digest"]
    status, told = client.post("/api/threshold", {"camera": "line-1/top", "threshold": 500, "why": "a joke"})
    assert status == 409 and "golden" in told["error"], "by that one every defect would be OK"
    assert client.post("/api/threshold", {"camera": "line-1/top", "threshold": "220"})[0] == 400
    assert Watched.camera(client)["digest"] == before
    status, told = client.post("/api/threshold", {"camera": "line-1/top", "threshold": 220.5, "why": "hairs"})
    assert status == 200 and (told["old"], told["new"]) == (200.0, 220.5)
    until(lambda: Watched.camera(client)["threshold"] == 220.5, what="the station to take it")
    assert Watched.camera(client)["digest"] == told["digest"]
    until(lambda: client.get(f"/api/parts?{TOP}&verdict=OK&score_min=214")["parts"], what="a part that was NG before")
    found = client.get(f"/api/parts?{TOP}&verdict=OK&score_min=214")["parts"][0]
    assert (found["score"], found["threshold"]) == (214.0, 220.5)
    history = client.get(f"/api/threshold/history?{TOP}")
    assert (history[0]["who"], history[0]["old"], history[0]["new"], history[0]["why"]) == ("local", 200.0, 220.5, "hairs")
    assert client.post("/api/threshold/undo", {"camera": "line-1/top"})[0] == 200
    until(lambda: Watched.camera(client)["threshold"] == 200.0)
    assert [row["what"] for row in client.get("/api/audit?limit=2")] == ["undo", "threshold"]
    assert client.post("/api/threshold/undo", {"camera": "line-1/top"})[0] == 409, "there is no earlier one"


def test_recipes_say_why_they_cannot_be_changed(client: Client) -> None:
    told = client.get(f"/api/recipes?{TOP}")
    assert told["recipes"][0]["bundle"] == "part.edgead" and told["current"] == 0
    assert not told["changeable"] and told["why_not"] == "there is one bundle only"
    assert client.post("/api/recipe", {"camera": "line-1/top", "recipe": 2})[0] == 409


def test_health_tells_what_is_checked_and_the_proof_can_be_printed(client: Client) -> None:
    told = client.get("/api/health")
    checks = {one["name"]: one["ok"] for one in told["checks"]}
    assert checks["station"] and checks["camera"] and checks["drift"] and "self-check" not in checks
    assert told["versions"]["edgead"] and told["disk"]["line-1"]["free_mb"] > 0
    status, page = client.ask("/proof/line-1/top")
    assert status == 200 and client.headers["content-type"].startswith("text/html")
    assert Watched.camera(client)["digest"].encode() in page and b"this bundle" in page and b"<script" not in page


def test_marked_pictures_are_exported_for_training_and_for_other_tools(client: Client) -> None:
    part = rejected(client)
    good = rejected(client, before=str(part["seq"]))
    client.post(f"/api/part/line-1/top/{part['seq']}/review", {"label": "confirmed", "note": ""})
    client.post(f"/api/part/line-1/top/{good['seq']}/review", {"label": "false_reject", "note": ""})
    names = {form: set(exported(client, form).namelist()) for form in ("mvtec", "coco", "labelstudio")}
    defect, fine = (f"line-1_top_{one['seq']:08d}.png" for one in (part, good))
    assert names["mvtec"] == {f"test/defect/{defect}", f"test/good/{fine}"}
    assert names["coco"] == {f"images/{defect}", f"images/{fine}", "annotations.json"}
    coco = json.loads(exported(client, "coco").read("annotations.json"))
    assert [box["bbox"] for box in coco["annotations"]] == [[0, 0, 160, 120]] and len(coco["images"]) == 2
    tasks = json.loads(exported(client, "labelstudio").read("tasks.json"))
    said = {task["data"]["image"].rpartition("/")[2]: task["annotations"][0]["result"][0]["value"]["choices"] for task in tasks}
    assert said == {defect: ["defect"], fine: ["good"]}


def exported(client: Client, form: str) -> zipfile.ZipFile:
    status, data = client.ask(f"/api/export?{TOP}&format={form}")
    assert status == 200, data
    return zipfile.ZipFile(io.BytesIO(data))


def test_thirty_browsers_that_do_not_read_and_a_dashboard_that_stands_still_cost_the_station_nothing(
    line: Watched, client: Client
) -> None:
    def count() -> int:
        return int(rows(line, "SELECT count(*) FROM records")[0][0])

    with ExitStack() as stack:
        streams = [stack.enter_context(client.stream()) for _ in range(30)]
        assert {stream.status for stream in streams} == {200}
        begun = count()
        until(lambda: count() > begun + 50)
        assert client.get("/api/line")["stations"], "others are answered"
        os.kill(line.dashboard, signal.SIGSTOP)
        try:
            begun = count()
            until(lambda: count() > begun + 50, what="parts while the dashboard stands still")
        finally:
            os.kill(line.dashboard, signal.SIGCONT)
    until(lambda: Watched.camera(client)["state"] == "ready")
    verdicts = dict(rows(line, "SELECT cause, count(*) FROM records GROUP BY cause"))
    assert set(verdicts) == {""}, "nothing was late, lost or faulted"
    assert Watched.camera(client)["disk"]["records_lost"] == 0


def test_a_dashboard_can_go_and_come_again(line: Watched) -> None:
    with Client(line.url).stream() as stream:
        stream.next("hello")
        assert line.stop_looking() == 0
        assert stream.ended()
    assert list((line.folder / "live").glob("*.sock")) == []
    line.look()
    client = Client(line.url)
    until(lambda: Watched.camera(client)["state"] == "ready")
    assert sum(Watched.camera(client)["counters"].values()) > 50, "what was recorded before is counted"
    assert line.log() == ""
