"""A shadow judges the same pictures and is recorded; whatever becomes of it, the line's verdicts are as they would be without."""

from __future__ import annotations

import csv
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgead.bundle import Bundle, rewrite_manifest
from edgead.cli.main import main
from edgead.config.reading import read_station
from edgead.decision import Rule
from edgead.errors import BadInput
from edgead.line.service import Station
from edgead.runtime.loop.combine import Combine
from edgead.runtime.products.shadow import Patience, Shadow
from edgead.runtime.records.basis import Judged
from edgead.runtime.records.history import History, Selection
from edgead.runtime.records.record import to_record
from edgead.runtime.records.shadows import shadowed
from edgead.runtime.records.store import RecordStore
from edgead.types import Inspection, Verdict
from tests.cli.test_run import write_bundle
from tests.runtime._line import BAD, GOOD, LineUnderTest, words
from tests.runtime.parts import START, inspection
from tests.waiting import PATIENCE_S, until

SOON = Patience(opening_s=PATIENCE_S, answer_s=PATIENCE_S, retry_s=(0.01, 0.02))

JUDGE = """
import json, math, os, signal, sys, time
facts = {"version": "v", "engine": "new/e", "bundle": "n" * 64, "model": "m" * 64, "by": "score", "threshold": 50.0,
         "unknown_band": None, "area": None, "views": 1, "ng_views": 1, "settle_frames": 1, "hysteresis": 0.0, "says": "NG at 50"}
def say(told):
    sys.stdout.write(json.dumps(told) + "\\n")
    sys.stdout.flush()
say({"ready": facts})
count = 0
while header := sys.stdin.buffer.readline():
    size = math.prod(json.loads(header)["shape"])
    picture = sys.stdin.buffer.read(size)
    count += 1
    score = sum(picture) / size
    good = {"verdict": "NG" if score >= 50 else "OK", "cause": "", "score": score, "reading": [score, score], "inference_ms": 1.0,
            "total_ms": 2.0}
    ACTION
    say(good)
"""


def process(folder: Path, action: str = "pass") -> list[str]:
    """A process that judges by brightness, and does something else before each answer."""
    file = folder / "judge.py"
    file.write_text(JUDGE.replace("ACTION", action))
    return [sys.executable, str(file)]


class Told:
    """What a shadow notes and gives notice of."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []
        self.notices: list[str] = []

    def notice(self, name: str, text: str) -> None:
        assert name == "shadow"
        if text != (self.notices[-1] if self.notices else ""):
            self.notices.append(text)


@contextmanager
def shadow(
    command: Sequence[str], *, combine: Combine | None = None, patience: Patience = SOON, capacity: int = 4
) -> Iterator[tuple[Shadow, Told]]:
    told = Told()
    made = Shadow(command, combine or Combine(), told.records.append, told.notice, patience=patience, capacity=capacity)
    with made:
        yield made, told


def seen_by(shadow: Shadow) -> LineUnderTest:
    """A line whose verdicts a shadow sees."""
    line = LineUnderTest()
    line.station.on_inspection(shadow.see, capacity=1000)
    return line


def flow(line: LineUnderTest, parts: int) -> list[str]:
    """Parts come, good and bad ones in turn; the line's verdicts."""
    found = []
    for i in range(parts):
        line.fire()
        line.push(BAD if i % 2 else GOOD)
        found.append(words(line.verdict()))
        line.pass_time(1)
    return found


def test_each_part_gets_a_record_of_its_own_with_what_the_shadow_said(tmp_path: Path) -> None:
    with shadow(process(tmp_path)) as (it, told), seen_by(it) as line:
        for i, picture in enumerate((GOOD, BAD)):
            line.fire()
            line.push(picture)
            line.verdict()
            line.pass_time(1)
            until(lambda i=i: it.judged == i + 1)  # type: ignore[misc]
        line.end()
    assert [(r["part_id"], r["verdict"], r["score"], r["level"]) for r in told.records] == [
        (1, "OK", 10.0, 10.0),
        (2, "NG", 200.0, 200.0),
    ]
    assert {(r["engine"], r["bundle"], r["threshold"], r["times"]["total_ms"]) for r in told.records} == {
        ("new/e", "", 50.0, 2.0)
    }
    assert not told.notices and (it.dropped, it.failures) == (0, 0)


FAULTS = {
    "hangs": ("time.sleep(3600)", "hangs"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
    "crashes": ("os.abort()", "signal 6"),
    "ends": ("os._exit(3)", "status 3"),
    "answers no JSON": ("sys.stdout.write('what?\\n'); sys.stdout.flush(); time.sleep(3600)", "Expecting value"),
    "answers a list": ("say([1])", "nonsense"),
    "answers no verdict": ("good['verdict'] = 'MAYBE'", "MAYBE"),
    "answers half": ("del good['score']", "nonsense"),
    "answers without end": ("sys.stdout.write('x' * 3_000_000); sys.stdout.flush(); time.sleep(3600)", "nonsense"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_shadow_that_fails_costs_the_line_nothing_and_is_told_once(tmp_path: Path, fault: str) -> None:
    action, says = FAULTS[fault]
    patience = replace(SOON, answer_s=0.5 if fault == "hangs" else PATIENCE_S)
    with shadow(process(tmp_path, action), patience=patience) as (it, told), seen_by(it) as line:
        dead = dict(line.station.health().threads)  # of the process: other tests' as well
        assert flow(line, 2) == ["OK", "NG"]
        until(lambda: it.failures >= 1)
        before = it.failures

        def fails_again() -> bool:
            assert flow(line, 2) == ["OK", "NG"]
            return it.failures > before

        until(fails_again)
        assert line.station.health().state == "ready" and line.station.health().threads == dead
        line.end()
    assert not told.records and it.judged == 0
    assert len(told.notices) == 1 and says in told.notices[0] and "the line goes on" in told.notices[0]


def test_a_shadow_that_works_again_takes_its_notice_back(tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    flag.touch()
    with shadow(process(tmp_path, f"os.path.exists({str(flag)!r}) and os._exit(1)")) as (it, told), seen_by(it) as line:
        flow(line, 1)
        until(lambda: it.failures >= 1)
        flag.unlink()

        def comes() -> bool:
            flow(line, 1)
            return it.judged > 0

        until(comes)
        line.end()
    assert "status 1" in told.notices[0] and told.notices[-1] == ""


def test_a_shadow_that_is_slower_than_the_line_loses_the_oldest_and_never_waits(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    action = f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    with shadow(process(tmp_path, action), capacity=3) as (it, told), seen_by(it) as line:
        assert flow(line, 30) == ["OK", "NG"] * 15
        until(lambda: it.dropped >= 26)
        gate.touch()
        until(lambda: it.judged + it.dropped == 30)
        line.end()
    assert [r["part_id"] for r in told.records][-3:] == [28, 29, 30], "the newest are judged"
    assert len(told.records) + it.dropped == 30 and len(told.records) <= 4


def test_a_shadow_that_does_not_open_says_why(tmp_path: Path) -> None:
    file = tmp_path / "none.py"
    file.write_text("import json; print(json.dumps({'failed': 'new.edgead is not a bundle'}))")
    with shadow([sys.executable, str(file)]) as (it, told):
        until(lambda: it.failures >= 2)
    assert len(told.notices) == 1 and "new.edgead is not a bundle" in told.notices[0]
    with shadow(["/no/such/program"]) as (it, told):
        until(lambda: it.failures >= 2)
    assert "No such file" in told.notices[0]


def test_closing_does_not_wait_for_a_shadow_that_hangs(tmp_path: Path) -> None:
    with shadow(process(tmp_path, "time.sleep(3600)")) as (it, _), seen_by(it) as line:
        flow(line, 1)
        until(lambda: it._process is not None and not it._waiting)
        pid = it._process._popen.pid  # type: ignore[union-attr]
        line.end()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    it.close()  # again


def test_the_frames_of_a_part_are_combined_as_the_line_does(tmp_path: Path) -> None:
    frames = [inspection(i, frame=True).frame for i in (0, 1)]
    assert frames[0] is not None and frames[1] is not None
    shown = replace(frames[0], image=GOOD), replace(frames[1], image=BAD)
    views = tuple(replace(inspection(7), frame=frame) for frame in shown)
    part = replace(inspection(7), views=views)
    for ng_views, verdict, level in ((1, "NG", 200.0), (2, "OK", 10.0)):
        with shadow(process(tmp_path), combine=Combine(2, ng_views)) as (it, told):
            it.see(part)
            until(lambda it=it: it.judged == 1)  # type: ignore[misc]
        (record,) = told.records
        assert (record["verdict"], record["level"], record["levels"]) == (verdict, level, [[10.0, 10.0], [200.0, 200.0]])


def test_a_part_without_a_picture_is_not_judged(tmp_path: Path) -> None:
    with shadow(process(tmp_path)) as (it, told):
        it.see(inspection(1, Verdict.UNKNOWN, "camera_timeout", frame=False))
        it.see(inspection(2))
        until(lambda: it.judged == 1)
    assert [record["part_id"] for record in told.records] == [2]


# What the records tell of it


def said(part: Inspection, basis: Judged, score: float) -> Inspection:
    verdict, cause = basis.rule.decide(score, part.anomaly_map)
    return replace(part, verdict=verdict, cause=cause, score=score, basis=basis)


OLD, NEW = Judged(Rule(2.0), "e", "b" * 64, "m" * 64), Judged(Rule(5.0), "new/e", "n" * 64, "w" * 64)


def test_the_records_tell_how_the_shadow_would_have_judged_this_span(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(tmp_path, commit_every_s=0.0)
    scores = [(1.0, 6.0), (3.0, 6.0), (3.0, 4.0), (1.0, None), (1.0, 2.0)]
    for part_id, (ours, theirs) in enumerate(scores, 1):
        part = inspection(part_id)
        if theirs is not None:  # it may come before the part's own record
            store.shadow(to_record(said(part, NEW, theirs), time_utc=START, engine="new/e"))
        store.write(to_record(said(part, OLD, ours), time_utc=START, engine="e"))
    assert store.flush(PATIENCE_S)
    store.close()
    with History(tmp_path) as history:
        found = shadowed(history, Selection())
        assert (found.parts, found.not_judged, found.left_out) == (4, 1, 0)
        assert (found.line, found.shadow) == ({"OK": 2, "NG": 2}, {"NG": 2, "OK": 2})
        assert found.flips == {"OK>NG": 1, "NG>OK": 1}
        assert (found.engine, found.bundle, found.latency_ms["max"]) == ("new/e", "n" * 64, 10.0)
        assert shadowed(history, Selection(last=1)).parts == 1
        with pytest.raises(BadInput, match="no shadow has judged"):
            shadowed(history, Selection(part_id=4))
    assert main(["records", str(tmp_path), "--shadow", "--csv", str(tmp_path / "differ.csv")]) == 0
    shown = capsys.readouterr().out
    assert "2 NG would have been 2" in shown and "1 part changes from OK to NG" in shown
    with (tmp_path / "differ.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["part_id"], row["verdict"], row["shadow_verdict"], row["shadow_score"]) for row in rows] == [
        ("1", "OK", "NG", "6.0"),
        ("3", "NG", "OK", "4.0"),
    ]
    assert {row["shadow_bundle"] for row in rows} == {"n" * 64}
    assert main(["records", str(tmp_path), "--shadow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["flips"] == {"OK>NG": 1, "NG>OK": 1}


def test_a_shadow_that_was_there_before_is_left_out_and_old_rows_go_with_the_records(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, commit_every_s=0.0, max_rows=3)
    for part_id, basis in enumerate((OLD, OLD, OLD, NEW, NEW), 1):
        part = said(inspection(part_id), basis, 6.0)
        store.shadow(to_record(part, time_utc=START))
        store.write(to_record(part, time_utc=START))
    assert store.flush(PATIENCE_S)
    store.write(to_record(said(inspection(6), NEW, 6.0), time_utc=START))
    assert store.flush(PATIENCE_S)
    store.close()
    with History(tmp_path) as history:
        found = shadowed(history, Selection())
        assert (found.parts, found.engine) == (2, "new/e")
        assert len(list(history.with_shadow(Selection()))) <= 3


# The whole station, with two real bundles

FILE = """
name: line
cameras:
  - {name: top, address: "sim:width=64,height=64,fps=50", bundle: tiny.edgead, shadow: SHADOW}
storage: {folder: data}
"""


def run_until(file: Path, done: Any) -> Station:
    with Station.from_file(file) as station:
        thread = threading.Thread(target=station.run, name="test-station")
        thread.start()
        try:
            until(lambda: done(station))
        finally:
            station.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    return station


def test_a_second_bundle_is_tried_beside_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "tiny.edgead")
    made = Bundle.open(write_bundle(tmp_path / "new.edgead"))
    record = made.manifest.engines[0]
    rewrite_manifest(made, made.manifest.with_engine(record.changed(replace(record.threshold, value=1.0))))
    file = tmp_path / "station.yaml"
    file.write_text(FILE.replace("SHADOW", "new.edgead"))
    assert main(["station", "check", str(file)]) == 0
    assert "new.edgead" in capsys.readouterr().out
    station = run_until(file, lambda station: station.lanes[0].shadow.judged >= 5)
    assert station.lanes[0].shadow is not None and station.lanes[0].shadow.failures == 0
    assert station.health()["top"].devices["shadow"]["judged"] >= 5
    with History(tmp_path / "data" / "top") as history:
        found = shadowed(history, Selection())
        pairs = {row["shadow_score"] for row in history.with_shadow(Selection())}
    assert found.parts >= 5 and set(found.shadow) == {"NG"} and found.engine == "new/onnxruntime-fp32"
    assert found.rule == "NG at score 1 and above" and all(score > 1 for score in pairs)


def test_a_shadow_that_is_no_bundle_is_a_notice_and_the_line_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "tiny.edgead")
    file = tmp_path / "station.yaml"
    file.write_text(FILE.replace("SHADOW", "{bundle: none.edgead, engine: onnxruntime-fp32}"))
    seen: list[str] = []

    def told(station: Station) -> bool:
        health = station.health()["top"]
        seen[:] = [health.state, health.notices.get("shadow", "")]
        return "none.edgead" in seen[1] and station.lanes[0].station.stats.parts > 3

    run_until(file, told)
    assert seen[0] == "ready" and "is not a bundle" in seen[1]
    assert main(["station", "check", str(file)]) == 3
    assert "none.edgead" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bundle: a.edgead, shadow: b.edgead", "shadow needs storage"),
        ("recipes: {1: a.edgead}, shadow: b.edgead", "does not go with recipes"),
        ("bundle: a.edgead, shadow: {bundle: b.edgead, threshold: 3}", "threshold"),
        ("bundle: a.edgead, shadow: {engine: x}", "bundle"),
        ("bundle: a.edgead, shadow: 3", "shadow"),
    ],
)
def test_a_shadow_that_means_nothing_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "station.yaml"
    file.write_text(f"name: l\ncameras:\n  - {{name: a, address: sim, {text}}}\n")
    with pytest.raises(BadInput, match=says):
        read_station(file)
