"""Records: a JSON object a line, whatever the numbers and the disk do."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from edgead.errors import StorageError
from edgead.runtime.records.record import RecordFile, to_record
from edgead.types import Frame, Inspection, StageTimes, Trigger, Verdict


def inspection(score: float) -> Inspection:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "rtsp://***@host/line", 7, 0, source="a.png")
    return Inspection(3, Verdict.NG, "", score, 2.0, None, StageTimes(1.0, 2.0, 3.0, 0.1234567, 6.1), frame)


def test_a_record_holds_what_is_known_of_a_part() -> None:
    when = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    assert to_record(inspection(2.5), time_utc=when, engine="openvino-int8") == {
        "part_id": 3,
        "time": "2026-11-22T01:04:05.678+00:00",
        "captured_ns": 0,
        "trigger_id": None,
        "trigger_source": "",
        "line_part_id": None,
        "camera": "rtsp://***@host/line",
        "frame_id": 7,
        "source": "a.png",
        "verdict": "NG",
        "cause": "",
        "score": 2.5,
        "threshold": 2.0,
        "times": {"wait_ms": 1.0, "resize_ms": 2.0, "inference_ms": 3.0, "decision_ms": 0.123, "total_ms": 6.1},
        "engine": "openvino-int8",
        "views": [],
        **{"bundle": "", "rule": "", "basis": None, "statistic": None, "level": None, "levels": []},
    }


def test_a_part_of_several_frames_keeps_what_each_said() -> None:
    views = (inspection(1.0), replace(inspection(math.nan), verdict=Verdict.UNKNOWN, cause="late", frame=None))
    part = replace(inspection(2.5), frame=None, trigger=Trigger(9, 123, part_id=77, source="plc"), views=views)
    record = to_record(part, time_utc=datetime.now(timezone.utc))
    assert (record["captured_ns"], record["trigger_id"], record["trigger_source"], record["line_part_id"]) == (123, 9, "plc", 77)
    shown = {"camera": "rtsp://***@host/line", "frame_id": 7, "verdict": "NG", "cause": "", "score": 1.0, "total_ms": 6.1}
    late = {"camera": None, "frame_id": None, "verdict": "UNKNOWN", "cause": "late", "score": None, "total_ms": 6.1}
    assert record["views"] == [shown, late]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_know_are_null(score: float, tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    file.write(to_record(inspection(score), time_utc=datetime.now(timezone.utc)))
    file.close()
    assert json.loads((tmp_path / "records.jsonl").read_text())["score"] is None


def test_lines_are_there_at_once_and_a_second_run_appends(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for run in range(2):
        file = RecordFile(path)
        file.write({"part_id": run})
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"part_id": i} for i in range(run + 1)]
        file.close()


def test_a_full_disk_costs_records_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    file = RecordFile(Path("/dev/full"))
    with caplog.at_level(logging.ERROR):
        for part_id in range(3):
            file.write({"part_id": part_id})
    file.close()
    assert file.lost == 3
    assert [r.getMessage() for r in caplog.records] == [
        "records are being lost, verdicts go on: /dev/full: No space left on device"
    ]


def test_a_file_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory") as caught:
        RecordFile(tmp_path / "no" / "such" / "folder.jsonl")
    assert caught.value.exit_code == 7
