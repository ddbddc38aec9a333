import json
import sys
from pathlib import Path

import pytest

from benchmarks import false_rejects


def test_the_table_is_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["false_rejects", "--splits", "2", "--json", str(target)])
    assert false_rejects.main() == 0
    rows = json.loads(target.read_text())["rows"]
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows)
    assert {row["scores"] for row in rows} == {*false_rejects.SCORES, "by area, 24 x 24 map"}
    assert all(row["guaranteed"] == (row["promised"] <= row["asked"]) for row in rows)
