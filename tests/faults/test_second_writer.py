"""A second station on the same block: a spare box that was left on, a copied station.yaml. Real processes, a real PLC process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgead.runtime.plc.signals import Fault
from tests.faults.line import BAD, GOOD, Line, wait, write_pictures

PARTS = 1500


@pytest.fixture
def pair(tmp_path: Path, bundle: Path) -> Iterator[tuple[Line, Line]]:
    """One sees good parts alone, the other bad ones alone; both write into the same registers of one PLC."""
    lines: list[Line] = []
    try:
        for name, kind in (("first", GOOD), ("second", BAD)):
            folder = tmp_path / name
            folder.mkdir()
            pictures = write_pictures(folder / "pictures", [kind] * PARTS)
            link = {"port": lines[0].plc.port} if lines else {}
            lines.append(Line(folder, bundle, str(pictures), link=link))
        lines[1].plc = lines[0].plc
        yield lines[0], lines[1]
    finally:
        for line in lines:
            line.close()


def oks(line: Line) -> list[int]:
    return [entry["part"] for entry in line.plc.log() if entry["verdict"] == "OK"]


def both_safe(first: Line, second: Line) -> None:
    """Neither is ready, each names the other, nothing passes any more."""
    for line in (first, second):
        line.until(lambda line=line: "writes the same block" in line.health()[1].get("fault", ""))  # type: ignore[misc]
        ready, health = line.health()
        text = health["notices"]["plc second_writer"]
        assert not ready and "boot number" in text and f"127.0.0.1:{line.plc.port}" in text
        assert "boot number" in health["fault"]
        line.until(lambda line=line: "writes the same block" in line.station.log())  # type: ignore[misc]
    before = oks(first)
    wait(1.0)
    assert oks(first) == before
    assert not first.health()[0] and not second.health()[0]
    assert {"error": Fault.SECOND_WRITER} in first.plc.log("error")


def no_wrong_ok(first: Line, second: Line) -> None:
    """What passed was taken and judged good by one, and not taken by the other."""
    judged = [{row["line_part_id"]: row["verdict"] for row in line.rows() if row["line_part_id"]} for line in (first, second)]
    for part in oks(first):
        assert judged[0].get(part) == "OK", f"part {part} passed: {[verdicts.get(part) for verdicts in judged]}"
        assert judged[1].get(part) is None, f"part {part} passed, and the other station judged it {judged[1][part]}"
    ids = [entry["part"] for entry in first.plc.log()]
    assert len(ids) == len(set(ids))


def test_two_stations_on_one_block_both_end_safe_and_the_one_that_stays_serves_again(pair: tuple[Line, Line]) -> None:
    first, second = pair
    first.start()
    assert first.give(5) == ["OK"] * 5
    first.plc.want(2000)
    second.station.start()
    both_safe(first, second)
    assert second.station.stop() == 0
    first.until_ready()
    at = len(oks(first))
    first.until(lambda: len(oks(first)) > at + 5)
    first.until(lambda: "second_writer is as it should be again" in first.station.log())

    second.station.start()
    both_safe(first, second)
    first.station.kill()
    second.until_ready()
    before, at = second.count(), len(oks(first))
    second.until(lambda: [e["verdict"] for e in second.plc.log()[before:]].count("NG") > 5)
    assert len(oks(first)) == at
    no_wrong_ok(first, second)


def test_two_stations_that_start_together_let_nothing_pass(pair: tuple[Line, Line]) -> None:
    first, second = pair
    first.plc.start()
    first.plc.want(500)
    first.station.start()
    second.station.start()
    both_safe(first, second)
    no_wrong_ok(first, second)
