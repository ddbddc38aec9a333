"""The soak's account finds what is lost, doubled or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import ZERO, account
from edgead.runtime.records.store import RecordStore
from tests.runtime.parts import record

PARTS = 5


class Log:
    """A PLC's log as the soak reads it."""

    def __init__(self, parts: list[dict[str, Any]]) -> None:
        self._parts = parts

    def log(self, key: str) -> list[dict[str, Any]]:
        return [entry for entry in self._parts if key in entry]


def told(part: int, verdict: str = "OK", by: str = "station") -> dict[str, Any]:
    return {"part": part, "verdict": verdict, "by": by}


@pytest.mark.parametrize(
    ("log", "recorded", "bad"),
    [
        ([told(i) for i in range(1, 6)], {}, {}),
        ([told(i) for i in range(1, 5)], {}, {"lost": 1}),
        ([*(told(i) for i in range(1, 5)), told(5, "UNKNOWN", "no_result")], {}, {"lost": 1}),
        ([*(told(i) for i in range(1, 6)), told(3)], {}, {"doubled": 1}),
        ([*(told(i) for i in range(1, 6)), {"ignored": 9}], {}, {"doubled": 1}),
        ([told(i) for i in range(1, 6)], {2: "NG"}, {"told_ok_but_recorded_otherwise": 1}),
        ([told(i) for i in range(1, 6)], {2: None}, {"without_record": 1, "told_ok_but_recorded_otherwise": 1}),
        ([told(1, "UNKNOWN"), *(told(i) for i in range(2, 6))], {}, {}),
    ],
)
def test_the_plcs_log_is_held_against_the_records(
    log: list[dict[str, Any]], recorded: dict[int, str | None], bad: dict[str, int], tmp_path: Path
) -> None:
    store = RecordStore(tmp_path)
    for part in range(1, PARTS + 1):
        if (verdict := recorded.get(part, "OK")) is not None:
            store.write({**record(part), "line_part_id": part, "verdict": verdict})
    store.close()
    found = account(Log(log), tmp_path / "records.db", PARTS)  # type: ignore[arg-type]
    assert {key: found[key] for key in ZERO if found.get(key)} == bad
