"""A threshold tried on records: exactly what judging the same answers again would have told, for every rule."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.decision import PixelRule, Region, Rule
from edgead.errors import BadInput
from edgead.line.service import Station
from edgead.runtime.loop.combine import Combine, Settle
from edgead.runtime.records.basis import Judged, Reader
from edgead.runtime.records.database import FILE_NAME
from edgead.runtime.records.history import History, Selection
from edgead.runtime.records.record import to_record
from edgead.runtime.records.replay import Replay, Trial, replay
from edgead.runtime.records.store import RecordStore
from edgead.types import AnomalyMap, Frame, Inspection, StageTimes, Verdict
from tests.cli.test_run import write_bundle
from tests.runtime.parts import START, record
from tests.waiting import PATIENCE_S

PICTURE = np.zeros((4, 4, 3), np.uint8)


@dataclass(frozen=True)
class Answer:
    """What an engine said of a picture; or why it said nothing."""

    score: float
    anomaly_map: AnomalyMap
    cause: str = ""


@dataclass(frozen=True)
class Way:
    """How a station judges."""

    rule: Rule
    views: int = 1
    ng_views: int = 1
    settle_frames: int = 1
    hysteresis: float = 0.0

    def told(self, parts: Sequence[Sequence[Answer] | str], first: int = 1) -> list[Inspection]:
        """Judge: with the station's own rule, combination and settling. A text instead of answers: late as a whole."""
        judged = Judged(self.rule, "e", "b" * 64, "m" * 64, self.views, self.ng_views, self.settle_frames, self.hysteresis)
        combine, settle = Combine(self.views, self.ng_views), Settle(self.settle_frames, self.hysteresis)
        found = []
        for part_id, answers in enumerate(parts, first):
            if isinstance(answers, str):
                late = Inspection(part_id, Verdict.UNKNOWN, answers, 3.0, self.rule.level, None, StageTimes(), None, basis=judged)
                found.append(settle(late))
                continue
            views = []
            for answer in answers:
                verdict, cause = self.rule.decide(answer.score, answer.anomaly_map)
                verdict, cause = (Verdict.UNKNOWN, answer.cause) if answer.cause else (verdict, cause)
                frame = Frame(PICTURE, "cam", part_id, 0)
                one = Inspection(part_id, verdict, cause, answer.score, self.rule.level, answer.anomaly_map, StageTimes(), frame)
                views.append(replace(one, basis=judged))
            found.append(settle(combine.inspection(views)))
        return found


def recorded(folder: Path, runs: Iterable[Sequence[Inspection]], read: bool = True) -> History:
    """As a station does, a run each."""
    for inspections in runs:
        store = RecordStore(folder, durable=False, commit_every_s=0.0)
        reader = Reader(store.read)
        for inspection in inspections:
            store.write(to_record(inspection, time_utc=START, engine="e"))
            if read:
                reader.see(inspection)
        assert store.flush(PATIENCE_S)
        store.close()
    return History(folder)


NUMBERS = st.sampled_from([-1.0, 0.0, 0.1, 0.25, 0.5, float(np.float32(0.3)), 0.75, 1.0, 2.0])
"""Scores and thresholds: few of them, so that they meet."""


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    noise = draw(st.lists(NUMBERS, min_size=25, max_size=25))
    anomaly_map = np.asarray(noise, np.float32).reshape(5, 5)
    if draw(st.integers(0, 9)) == 0:
        anomaly_map[0, 0] = math.nan
    score = draw(st.sampled_from([math.nan, math.inf])) if draw(st.integers(0, 9)) == 0 else float(np.float32(draw(NUMBERS)))
    return Answer(score, anomaly_map, "bad_frame: torn" if draw(st.integers(0, 9)) == 0 else "")


def banded(value: float, wide: bool) -> tuple[float, float] | None:
    return (value - 0.3, value + 0.2) if wide else None


@st.composite
def ways(draw: st.DrawFn) -> Way:
    value, wide = draw(NUMBERS), draw(st.booleans())
    if draw(st.booleans()):
        rule = Rule(value, banded(value, wide))
    else:
        regions = draw(
            st.sampled_from([(), (Region.rectangle(0, 0, 1, 0.5),), (Region.rectangle(0, 0, 0.5, 0.5, threshold=0.7),)])
        )
        grid = draw(st.sampled_from([None, (8, 8)]))
        rule = Rule(5.0, banded(value, wide), PixelRule(value, draw(st.integers(1, 4)), regions, grid), "area")
    if draw(st.booleans()):
        return Way(rule, settle_frames=draw(st.integers(1, 3)), hysteresis=draw(st.sampled_from([0.0, 0.3])))
    views = draw(st.integers(1, 3))
    return Way(rule, views, draw(st.integers(1, views)))


@settings(max_examples=60, deadline=None)
@given(st.data(), ways(), NUMBERS, st.booleans())
def test_any_threshold_is_replayed_as_if_judged_again(data: st.DataObject, way: Way, value: float, wide: bool) -> None:
    part = st.one_of(st.lists(answers(), min_size=way.views, max_size=way.views), st.just("late: resize"))
    runs = [data.draw(st.lists(part, min_size=1, max_size=12)) for _ in range(2)]
    again = replace(way, rule=way.rule.with_level(value, banded(value, wide)))
    told, wanted = ([one.told(parts, 1 + 100 * i) for i, parts in enumerate(runs)] for one in (way, again))
    start = data.draw(st.integers(1, len(runs[0])))  # the span may begin anywhere
    with TemporaryDirectory() as folder, recorded(Path(folder), told) as history:
        count = sum(map(len, runs)) - start + 1
        found = replay(history, Selection(last=count), Trial(value, unknown_band=banded(value, wide) or "none"))
        same = replay(history, Selection(last=count), Trial(way.rule.level, unknown_band=way.rule.unknown_band or "none"))
    flat = [[inspection for run in one for inspection in run][start - 1 :] for one in (told, wanted)]
    expected = {
        seq: (now.verdict.value, now.cause)
        for seq, (was, now) in enumerate(zip(*flat, strict=True), start)
        if was.verdict is not now.verdict
    }
    assert (found.parts, found.left_out, found.unknown) == (count, 0, 0)
    assert dict(found.changed) == expected
    assert found.before == Counter(one.verdict.value for one in flat[0])
    assert found.after == Counter(one.verdict.value for one in flat[1])
    assert same.before == same.after and not same.changed


@settings(max_examples=30, deadline=None)
@given(st.lists(answers(), min_size=1, max_size=20), NUMBERS, st.integers(1, 6), st.integers(1, 6))
def test_any_minimal_area_is_replayed_as_if_judged_again(said: list[Answer], value: float, area: int, other: int) -> None:
    before, after = (Way(Rule(5.0, None, PixelRule(value, size), "area")) for size in (area, other))
    parts = [[answer] for answer in said]
    with TemporaryDirectory() as folder, recorded(Path(folder), [before.told(parts)]) as history:
        found = replay(history, Selection(), Trial(min_area=other))
    assert found.parts == len(parts)
    assert found.after == Counter(one.verdict.value for one in after.told(parts))


def scores(*values: float) -> list[list[Answer]]:
    return [[Answer(value, np.full((2, 2), value, np.float32))] for value in values]


def by_score(*values: float, rule: Rule | None = None, first: int = 1) -> list[Inspection]:
    return Way(rule or Rule(2.0)).told(scores(*values), first)


def test_what_cannot_be_compared_is_counted_and_left_out(tmp_path: Path) -> None:
    first, other = by_score(1.0, 3.0), by_score(9.0, first=3)
    basis = Judged(Rule(2.0), "fallback", "b" * 64, "another model")
    with recorded(tmp_path, [first, [replace(one, basis=basis) for one in other], by_score(2.5, first=4)]) as history:
        found = replay(history, Selection(), Trial(2.75))
        assert (found.parts, found.left_out, found.flips) == (3, 1, {"NG>OK": 1})
        assert replay(history, Selection(), Trial(2.75, engine="fallback")).parts == 1
        with pytest.raises(BadInput, match="no part was judged by an engine 'e2'"):
            replay(history, Selection(), Trial(2.75, engine="e2"))


def test_parts_by_area_that_nobody_could_read_are_not_guessed(tmp_path: Path) -> None:
    way = Way(Rule(5.0, None, PixelRule(2.0, 2), "area"))
    with recorded(tmp_path, [way.told(scores(1.0, 3.0)[:1]), way.told(scores(3.0), 2)], read=False) as history:
        found = replay(history, Selection(), Trial(0.5))
    assert (found.parts, found.unknown) == (0, 2)


@pytest.mark.parametrize(
    ("trial", "says"),
    [
        ({"threshold": 1.0}, "say what becomes of it"),
        ({"min_area": 3}, "known at one threshold only"),
        ({"threshold": math.nan}, "decides nothing"),
        ({"threshold": 1e39}, "decides nothing"),
        ({}, "a threshold or a minimal area"),
        ({"threshold": 1.0, "min_area": 3}, "a threshold or a minimal area"),
        ({"threshold": 1.0, "unknown_band": (2.0, 3.0)}, "does not hold the threshold"),
        ({"min_area": 0}, "1 map pixel or more"),
    ],
)
def test_a_trial_that_means_nothing_is_refused(tmp_path: Path, trial: dict[str, float], says: str) -> None:
    way = Way(Rule(5.0, (1.5, 2.5), PixelRule(2.0, 2), "area"))
    with recorded(tmp_path, [way.told(scores(1.0))]) as history, pytest.raises(BadInput) as refused:
        replay(history, Selection(), Trial(**trial))  # type: ignore[arg-type]
    assert says in f"{refused.value} {refused.value.hint}"


def test_an_area_is_nothing_to_scores_and_nothing_is_known_of_records_without_a_rule(tmp_path: Path) -> None:
    with recorded(tmp_path / "a", [by_score(1.0)]) as history, pytest.raises(BadInput, match="an area decides nothing"):
        replay(history, Selection(), Trial(min_area=3))
    store = RecordStore(tmp_path / "b")
    store.write(record(1))
    store.close()
    with History(tmp_path / "b") as history, pytest.raises(BadInput, match="says by which rule"):
        replay(history, Selection(), Trial(1.0))


def test_the_command_tells_how_many_ng_there_would_have_been_and_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path, [by_score(*[1.0] * 20, *[1.6] * 361, *[3.0] * 505)]).close()
    assert main(["records", str(tmp_path), "--replay", "1.5", "--csv", str(tmp_path / "changed.csv")]) == 0
    shown = capsys.readouterr().out
    assert "505 NG would have been 866" in shown and "361 parts change from OK to NG" in shown
    with (tmp_path / "changed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 361 and {(row["verdict"], row["replayed"], row["statistic"]) for row in rows} == {("OK", "NG", "1.6")}
    assert {row["bundle"] for row in rows} == {"b" * 64} and len({row["rule"] for row in rows}) == 1
    assert main(["records", str(tmp_path), "--replay", "1.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["action"], told["before"]["NG"], told["after"]["NG"], told["flips"]) == ("replay", 505, 866, {"OK>NG": 361})


@pytest.mark.parametrize(
    "arguments", [["--engine", "e"], ["--unknown-band", "none"], ["--replay", "1", "--summary"], ["--changes", "--part", "1"]]
)
def test_options_that_do_not_apply_are_refused(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, [by_score(1.0)]).close()
    assert main(["records", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err.count("\n") <= 2


def test_a_station_by_area_records_what_each_part_can_be_judged_by_again(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "tiny.edgead")
    assert main(["threshold", str(bundle), "--by", "area", "--set", "150", "--min-area", "3"]) == 0
    file = tmp_path / "station.yaml"
    address = "sim:width=64,height=64,parts=30,defect_rate=0.5"
    file.write_text(
        f"name: line\ncameras: [{{name: top, address: '{address}', bundle: tiny.edgead}}]\nstorage: {{folder: data}}\n"
    )
    seen: list[Inspection] = []
    with Station.from_file(file) as station:
        station.on_inspection(seen.append, capacity=1000).run()
    rule = Bundle.open(bundle).manifest.engines[0].threshold.rule
    with History(tmp_path / "data" / "top") as history:
        rows = list(history.rows())
        middle = float(np.median([row["level"] for row in rows]))
        found = replay(history, Selection(), Trial(middle))
        areas = replay(history, Selection(), Trial(min_area=20))
    assert rule.pixel is not None and len(rows) == len(seen) == 30
    for row, inspection in zip(rows, seen, strict=True):
        assert inspection.anomaly_map is not None
        assert row["statistic"] == rule.pixel.largest_area(inspection.anomaly_map)
    again = [rule.with_level(middle).decide(one.score, one.anomaly_map)[0].value for one in seen]
    assert found.after == Counter(again) and set(again) == {"OK", "NG"}
    assert areas.after.get("NG", 0) == sum(row["statistic"] >= 20 for row in rows)


SCHEMA_1 = """
CREATE TABLE runs (run INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, station TEXT NOT NULL, started TEXT NOT NULL,
                   boot TEXT NOT NULL, pid INTEGER NOT NULL, edgead TEXT NOT NULL);
CREATE TABLE records (seq INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, part_id INTEGER NOT NULL, trigger_id INTEGER,
    trigger_source TEXT, line_part_id INTEGER, time TEXT NOT NULL, recorded_ns INTEGER NOT NULL, captured_ns INTEGER, camera TEXT,
    frame_id INTEGER, source TEXT, verdict TEXT NOT NULL, cause TEXT NOT NULL, score REAL, threshold REAL, engine TEXT,
    wait_ms REAL, resize_ms REAL, inference_ms REAL, decision_ms REAL, total_ms REAL, views TEXT, picture TEXT, overlay TEXT,
    acknowledged TEXT);
CREATE INDEX records_by_part ON records (part_id);
PRAGMA application_id = 1701078885;
PRAGMA user_version = 1;
"""


def old_file(folder: Path, rows: Sequence[tuple[int, str, str, float | None]]) -> Path:
    """Records as an edgead of schema 1 left them."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL;" + SCHEMA_1)
        connection.execute("INSERT INTO runs VALUES (1, 'x', 'line', '2026-01-01T00:00:00.000+00:00', 'boot', 7, '0.9')")
        insert = "INSERT INTO records (run, part_id, time, recorded_ns, verdict, cause, score) VALUES (1, ?, ?, 5, ?, ?, ?)"
        for part_id, verdict, cause, score in rows:
            connection.execute(insert, (part_id, "2026-01-01T00:00:00.000+00:00", verdict, cause, score))
        connection.commit()
    return folder


ROWS = st.lists(
    st.tuples(
        st.integers(1, 2**62),
        st.sampled_from(["OK", "NG", "UNKNOWN"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    ),
    min_size=0,
    max_size=20,
)


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_old_files_are_read_as_they_are_and_carried_over_with_all_that_is_in_them(
    rows: list[tuple[int, str, str, float | None]],
) -> None:
    with TemporaryDirectory() as name:
        folder = old_file(Path(name), rows)
        before = (folder / FILE_NAME).read_bytes()
        with History(folder) as history:
            old = list(history.rows())
            assert history.rules() == {} and history.changes() == []
        assert (folder / FILE_NAME).read_bytes() == before  # a reader writes nothing
        assert [(row["part_id"], row["verdict"], row["cause"], row["score"]) for row in old] == rows
        assert all(row[name] is None for row in old for name in ("statistic", "level", "rule", "bundle"))
        with recorded(folder, [by_score(3.0, first=5)]) as history:
            *kept, new = history.rows()
            found = replay(history, Selection(), Trial(4.0))
        assert kept == old
        assert (new["statistic"], new["level"], new["run"]) == (3.0, 3.0, 2)
        fixed = sum(1 for row in rows if row[2] not in ("", "unsure", "settling"))
        assert (found.parts, found.flips, found.left_out) == (1, {"NG>OK": 1}, len(rows)), fixed


def test_a_reader_that_was_there_before_the_file_was_carried_over_goes_on(tmp_path: Path) -> None:
    old_file(tmp_path, [(1, "OK", "", 1.0)])
    with History(tmp_path) as history:
        assert len(list(history.rows())) == 1
        recorded(tmp_path, [by_score(3.0, first=2)]).close()
        with History(tmp_path) as other:
            assert [row["part_id"] for row in other.rows()] == [1, 2]


def test_an_old_file_that_can_only_be_read_is_listed_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = old_file(tmp_path / "old", [(1, "OK", "", 1.0), (2, "NG", "", 3.0)])
    (folder / FILE_NAME).chmod(0o444)
    folder.chmod(0o555)
    try:
        assert main(["records", str(folder), "--summary"]) == 0
        assert "2 parts in 1 runs" in capsys.readouterr().out
        assert main(["records", str(folder), "--replay", "2"]) == 2
        assert "older edgead" in capsys.readouterr().err
    finally:
        folder.chmod(0o755)


def test_a_carrying_over_that_fails_leaves_the_old_file_and_is_tried_again(tmp_path: Path) -> None:
    """Somebody holds the file: verdicts go on, records wait, and it is done once he lets go."""
    old_file(tmp_path, [(1, "OK", "", 1.0)])
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store = RecordStore(tmp_path, commit_every_s=0.0, retry_s=0.05)
        assert store.fault
        store.write(to_record(by_score(3.0, first=2)[0], time_utc=START))
        other.execute("ROLLBACK")
        assert store.flush(PATIENCE_S)
        store.close()
    with History(tmp_path) as history:
        assert [(row["part_id"], row["level"]) for row in history.rows()] == [(1, None), (2, 3.0)]


def told(found: Replay) -> tuple[int, dict[str, int]]:
    return found.parts, found.flips


def test_parts_that_were_told_otherwise_in_the_end_stay_so(tmp_path: Path) -> None:
    """Records first: the disk was late, so the line was told UNKNOWN."""
    store = RecordStore(tmp_path, commit_every_s=0.0)
    for inspection in by_score(1.0, 1.0):
        store.write(to_record(inspection, time_utc=START))
    store.amend(1, "UNKNOWN", "late_output: its record was not safe in time")
    assert store.flush(PATIENCE_S)
    store.close()
    with History(tmp_path) as history:
        assert told(replay(history, Selection(), Trial(0.5))) == (2, {"OK>NG": 1})
