"""The Python face of a station file: the same wiring as `edgead run station.yaml`, with callbacks, run, stop and health."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from edgead import golden
from edgead.errors import BadInput, BundleError
from edgead.line.service import Station
from edgead.types import Inspection
from tests.cli.test_run import write_bundle
from tests.waiting import PATIENCE_S, until

SIM = "sim:width=64,height=64,parts=4"
PART = """
parts:
  - {name: part, cameras: [top, side], trigger: {source: interval, every_ms: 20}, budget_ms: 30000}
"""


def written(folder: Path, address: str = SIM, more: str = "") -> Path:
    write_bundle(folder / "tiny.edgead")
    cameras = "".join(f"  - {{name: {name}, address: '{address}', bundle: tiny.edgead}}\n" for name in ("top", "side"))
    file = folder / "station.yaml"
    file.write_text(f"name: line\ncameras:\n{cameras}{more}\nstorage: {{folder: data}}\n")
    return file


def test_every_verdict_of_every_camera_is_told_and_recorded(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    seen: list[Inspection] = []
    with Station.from_file(written(tmp_path)) as station:
        counters = station.on_record(records.append).on_inspection(seen.append, of="side", capacity=100).run()
        assert set(station.health()) == {"top", "side"}
    assert {name: found.parts for name, found in counters.items()} == {"top": 4, "side": 4}
    assert len(records) == 8 and [one.part_id for one in seen] == [1, 2, 3, 4]
    assert all(one.frame is not None for one in seen)
    outcomes = {found.name: found for found in station.outcomes()}
    assert outcomes["top"].stats.parts == 4 and outcomes["top"].kept["records"].lost == 0
    assert (tmp_path / "data/top/records.db").is_file()
    station.close()  # again


def test_a_part_of_two_cameras_is_told_once_and_its_views_when_asked_for(tmp_path: Path) -> None:
    parts: list[Inspection] = []
    views: list[Inspection] = []
    with Station.from_file(written(tmp_path, more=PART)) as station:
        station.on_inspection(parts.append, capacity=1000).on_inspection(views.append, of="top", capacity=1000)
        runner = threading.Thread(target=station.run, kwargs={"max_parts": 3}, name="test-run")
        runner.start()
        runner.join(PATIENCE_S)
        assert not runner.is_alive()
    assert [len(part.views) for part in parts[:3]] == [2, 2, 2]
    assert len(views) == 3 and len(parts) == station.outcomes()[0].stats.parts


def test_it_stops_from_another_thread(tmp_path: Path) -> None:
    with Station.from_file(written(tmp_path, "sim:width=64,height=64,fps=50")) as station:
        runner = threading.Thread(target=station.run, name="test-run")
        runner.start()
        until(lambda: station.health()["top"].state == "ready")
        station.stop()
        runner.join(PATIENCE_S)
        assert not runner.is_alive()


def test_what_is_wrong_is_told_before_anything_runs(tmp_path: Path) -> None:
    file = written(tmp_path)
    with Station.from_file(file) as station, pytest.raises(BadInput, match="no camera or part back"):
        station.on_inspection(print, of="back")
    file.write_text(file.read_text().replace("tiny.edgead", "no.edgead"))
    with pytest.raises(BundleError, match=r"no\.edgead"):
        Station.from_file(str(file))


def test_golden_frames_are_decoded_once_however_many_use_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof, the reach of the rule, the self-check and drift of two cameras."""
    read, decoded = golden.read_frames, []

    def counting(*arguments: Any) -> Any:
        decoded.append(arguments[0])
        return read(*arguments)

    monkeypatch.setattr(golden, "read_frames", counting)
    with Station.from_file(written(tmp_path)) as station:
        station.run()
    assert decoded == [tmp_path / "tiny.edgead"]
