"""A pulled bundle is taken by the station that runs, between two parts; one that it must not take changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.line.service import Station
from edgead.runtime.records.history import History
from tests.servers.registry import Registry
from tests.vouched import picture
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def addresses(registry: Registry, old: Path, new: Path) -> tuple[str, str]:
    found = f"oci://{registry.host}/line/apply:1", f"oci://{registry.host}/line/apply:2"
    for bundle, address in zip((old, new), found, strict=True):
        assert main(["push", str(bundle), address]) == 0
    return found


@contextmanager
def running(folder: Path, pin: str = "") -> Iterator[tuple[Station, list[dict[str, Any]]]]:
    """A station that gives verdicts on good pictures, and its records."""
    (folder / "pictures").mkdir()
    for i in range(500):
        cv2.imwrite(str(folder / f"pictures/{i:03d}.png"), picture(5 + i % 7, False))
    trigger = "trigger: {source: interval, every_ms: 100}, budget_ms: 20000"
    camera = f"{{name: top, address: '{folder}/pictures', bundle: box/bolt.edgead{pin}, {trigger}}}"
    (folder / "station.yaml").write_text(f"name: line\ncameras: [{camera}]\nstorage: {{folder: data, pictures: null}}\n")
    records: list[dict[str, Any]] = []
    with Station.from_file(folder / "station.yaml") as station:
        runner = threading.Thread(target=station.on_record(records.append).run, name="test-run")
        runner.start()
        try:
            until(lambda: records, what="the first part")
            yield station, records
        finally:
            station.stop()
            runner.join(PATIENCE_S)
        assert not runner.is_alive()


def test_the_new_bundle_is_taken_between_two_parts_and_noted(
    addresses: tuple[str, str], old: Path, new: Path, tmp_path: Path
) -> None:
    target = tmp_path / "box/bolt.edgead"
    before, after = Bundle.open(old).digest, Bundle.open(new).digest
    assert main(["pull", addresses[0], "-o", str(target)]) == 0
    with running(tmp_path) as (station, records):
        assert main(["pull", addresses[1], "-o", str(target), "--verify", "--apply"]) == 0
        until(lambda: records[-1]["bundle"] == after, what="the new bundle")
        assert not station.health()["top"].notices
    judged = [record["bundle"] for record in records]
    assert judged == sorted(judged, key=[before, after].index) and set(judged) == {before, after}
    assert {record["verdict"] for record in records if record["cause"] != "stopped"} == {"OK"}
    assert [record["part_id"] for record in records] == list(range(1, len(records) + 1))
    with History(tmp_path / "data/top") as history:
        ((change,),) = [history.changes()]
    assert (change["bundle_before"], change["bundle_after"]) == (before, after)


def test_a_station_whose_file_pins_another_bundle_goes_on_with_the_one_before(
    addresses: tuple[str, str], old: Path, tmp_path: Path
) -> None:
    target, before = tmp_path / "box/bolt.edgead", Bundle.open(old).digest
    assert main(["pull", addresses[0], "-o", str(target)]) == 0
    with running(tmp_path, f", sha256: {before}") as (station, records):
        assert main(["pull", addresses[1], "-o", str(target), "--apply"]) == 0
        until(lambda: "bundle" in station.health()["top"].notices, what="the refusal")
        told = station.health()["top"].notices["bundle"]
        assert "a new bundle was refused, the one before goes on" in told and "is not the bundle that is wanted" in told
        assert main(["pull", addresses[0], "-o", str(target), "--apply"]) == 0
        until(lambda: not station.health()["top"].notices, what="all is well again")
    assert {record["bundle"] for record in records if record["bundle"]} == {before}


def test_it_needs_a_folder_that_a_station_runs(addresses: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", f"{addresses[0]}@sha256:{'0' * 64}", "--apply"]) == 2
    assert "--apply: there is no -o DIR" in capsys.readouterr().err
