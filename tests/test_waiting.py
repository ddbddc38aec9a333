"""The suite's own reader of other processes' logs: a line that is being written must not break a test."""

from __future__ import annotations

from pathlib import Path

from tests.waiting import JsonLines


def test_a_line_that_is_still_being_written_is_read_later(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = JsonLines(path)
    assert lines.read() == []
    path.write_text('{"part": 1}\n{"arrived": 2}\n{"par')
    assert lines.read() == [{"part": 1}, {"arrived": 2}]
    with path.open("a") as file:
        file.write('t": 2}\n')
    assert lines.read() == [{"part": 1}, {"arrived": 2}, {"part": 2}]
