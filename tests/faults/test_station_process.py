"""What happens to the station's own process: SIGTERM in the middle of a part, kill -9, a disk that is read-only at its start."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.faults.line import LIMIT, Line, third_is_bad, words, write_pictures
from tests.runtime.disks import remount

Make = Callable[..., Line]


@pytest.fixture
def lines(tmp_path: Path, bundle: Path) -> Iterator[Make]:
    made: list[Line] = []

    def make(kinds: list[str], **options: Any) -> Line:
        pictures = write_pictures(tmp_path / "pictures", kinds)
        made.append(Line(tmp_path, bundle, str(pictures), **options))
        return made[-1]

    yield make
    for line in made:
        line.close()


def test_sigterm_in_the_middle_of_parts_makes_them_unknown_stopped(lines: Make) -> None:
    line = lines(third_is_bad(50), plc={"in_flight": 3}, trigger_delay_ms=1500)
    line.start()
    line.plc.want(3)
    line.until(lambda: line.health()[1].get("open_parts") == 3)
    line.station.signal(signal.SIGTERM)
    assert line.station.stop() == 0, line.station.log()  # by a second SIGTERM, which hurts no more than the first
    assert not line.records.with_name("records.db-wal").exists()  # the database is one whole file
    assert [words(entry) for entry in line.plc.log()] == ["UNKNOWN stopped"] * 3
    assert [row["cause"] for row in line.rows()] == ["stopped"] * 3
    assert "3 parts: 0 OK, 0 NG, 3 UNKNOWN (3 stopped)" in line.station.log()
    line.judge()
    line.plc.want(1)  # nothing is ready, so nothing passes
    assert line.plc.log()[3:] == []


@pytest.mark.promise("survive `kill -9`")
def test_kill_9_loses_no_committed_record_and_shows_no_old_result_again(lines: Make) -> None:
    line = lines(third_is_bad(2000), plc={"in_flight": 3})
    line.start()
    line.plc.want(10_000)
    line.until(lambda: len([row for row in line.rows() if row["acknowledged"]]) >= 20)
    committed = line.rows()
    line.station.kill()
    at_kill = line.count()
    line_saw = {entry["part"]: entry for entry in line.plc.log()}
    line.station.start()
    line.until_ready()
    line.until(lambda: line.count() >= at_kill + 30)
    line.plc.kill()
    assert line.station.stop() == 0

    rows = line.rows()
    assert [(row["seq"], row["part_id"]) for row in rows[: len(committed)]] == [(r["seq"], r["part_id"]) for r in committed]
    for before, after in zip(committed, rows, strict=False):
        assert before == after or before["acknowledged"] is None or before["picture"] is None
        assert before["verdict"] == after["verdict"]
    with closing(sqlite3.connect(line.records)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    runs = {run: [row["part_id"] for row in rows if row["run"] == run] for run in {row["run"] for row in rows}}
    assert len(runs) == 2
    assert min(runs[2]) == max(runs[1]) + 1

    log = line.judge(recorded=False)
    answered = [entry for entry in log if entry["by"] == "station"]
    recorded = {row["line_part_id"] for row in rows}
    lost = [entry["part"] for entry in answered if entry["part"] not in recorded]
    assert all(part in line_saw for part in lost), "only the last half second before the kill may be missing"
    second = [entry for entry in log[at_kill:] if entry["verdict"] == "OK"]
    assert second and all(entry["score"] < LIMIT for entry in second)
    assert all(row["run"] == 2 for row in rows if row["line_part_id"] in {entry["part"] for entry in second})
    rejected = [entry["by"] for entry in log if entry["by"] not in ("station", "no_ack")]
    assert len(rejected) <= 3 and set(rejected) <= {"station_restarted", "no_result"}  # by how long the start took


def test_a_disk_that_is_read_only_at_the_start_costs_no_verdict_and_gets_its_records_later(lines: Make, small_disk: Path) -> None:
    remount(small_disk, "ro")
    line = lines(third_is_bad(30), records=small_disk)
    line.start()
    assert line.give(6) == ["OK", "OK", "NG"] * 2
    assert line.rows() == []
    remount(small_disk, "rw")
    line.judge()
    assert len(line.rows()) == 6
    assert "ead-only" in line.station.log()
    assert line.station.stop() == 0


def test_pictures_that_are_garbage_of_another_size_or_frozen_are_unknown(lines: Make, tmp_path: Path) -> None:
    line = lines(third_is_bad(12), frozen_after=3)
    pictures = tmp_path / "pictures"
    (pictures / "00001_good.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")  # garbage
    (pictures / "00002_bad.png").write_bytes(b"")
    cv2.imwrite(str(pictures / "00003_good.png"), np.full((24, 40, 3), 50, np.uint8))  # another size
    for i in range(5, 9):
        cv2.imwrite(str(pictures / f"{i:05d}_{'bad' if i % 3 == 2 else 'good'}.png"), np.full((16, 16, 3), 77, np.uint8))
    (pictures / "00005_bad.png").rename(pictures / "00005_good.png")  # a frozen picture still shows the good part before
    line.start()
    told = line.give(14)
    assert told == [
        "OK",
        "UNKNOWN unreadable_image",
        "UNKNOWN unreadable_image",
        "UNKNOWN wrong_size",
        "OK",
        "OK",
        "OK",
        "UNKNOWN frozen_picture",
        "UNKNOWN frozen_picture",
        "OK",
        "OK",
        "NG",
        "UNKNOWN end_of_stream",  # the folder is over
        "UNKNOWN end_of_stream",
    ]

    assert line.station.wait() == 0  # nothing more can come
    line.judge()
