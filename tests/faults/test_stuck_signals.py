"""Signals of the PLC that are stuck: no part comes, and /readyz, notices, log, metrics and summary all say why."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.line import Line, third_is_bad, write_pictures
from tests.waiting import PATIENCE_S

PICTURES = 400


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("stuck")
    line = Line(folder, bundle, str(write_pictures(folder / "pictures", third_is_bad(PICTURES))))
    try:
        line.start()
        yield line
    finally:
        line.close()


def metrics(line: Line) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{line.http}/metrics", timeout=PATIENCE_S) as answer:
        text: str = answer.read().decode()
    return text


@pytest.mark.parametrize(
    ("signal", "value", "name", "words"),
    [
        ("heartbeat", 17, "heartbeat", "stands still at 17"),
        ("enable", 0, "enable", "enable is off"),
        ("reset", 1, "reset", "reset is on"),
        ("recipe", 3, "recipe", "recipe 3"),
        ("trigger", 1, "trigger", "trigger is on"),
        ("result_ack", 1, "result_ack", "result_ack is on"),
        ("result_ack", 0, "result", "result_ack is off"),
    ],
)
def test_a_stuck_signal_makes_the_station_not_ready_and_is_told_everywhere(
    running: Line, signal: str, value: int, name: str, words: str
) -> None:
    running.healthy()
    running.plc.force(signal, value)
    running.plc.want(3)
    key = f"plc {name}"
    running.until(lambda: key in running.health()[1].get("notices", {}))
    ready, health = running.health()
    text = health["notices"][key]
    assert not ready and health["state"] == "faulted"
    assert text.startswith(f"the PLC at 127.0.0.1:{running.plc.port}") and words in text
    assert "expected" in text and "look at" in text
    running.until(lambda: words in running.station.log())
    assert f'edgead_notice{{camera="cam",what="{key}"}} 1.0' in metrics(running)
    assert 'edgead_ready{camera="cam"} 0.0' in metrics(running)
    running.plc.force(signal, None)
    running.until_ready()
    running.until(lambda: f"{name} is as it should be again" in running.station.log())
    before = running.last_id()
    running.plc.want(1)
    running.until(lambda: running.last_id() > before + 1 or running.plc.log()[-1]["verdict"] != "UNKNOWN")


def test_the_summary_counts_what_was_told_and_what_was_taken_apart(tmp_path: Path, bundle: Path) -> None:
    line = Line(tmp_path, bundle, str(write_pictures(tmp_path / "pictures", ["good"] * 20)))
    try:
        line.start()
        assert line.give(2) == ["OK", "OK"]
        # The PLC logs a result before the station sees that it was acknowledged.
        line.until(lambda: [row["acknowledged"] is not None for row in line.rows()] == [True, True])
        line.plc.force("result_ack", 0)
        line.plc.want(1)
        line.until(lambda: "plc result" in line.health()[1].get("notices", {}))
        assert line.station.stop() == 0
        assert "3 parts: 3 OK, 0 NG, 0 UNKNOWN" in line.station.log()
        assert "the PLC was told 3 results and took 2: 2 OK, 0 NG, 0 UNKNOWN" in line.station.log()
    finally:
        line.close()
