"""What earlier versions wrote is opened, verified, run and carried over: docs/compatibility.md, fixtures/earlier/make.py."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.config.reading import read_station, schema
from edgead.dashboard import reviews
from edgead.export import ExportOptions, export_bundle
from edgead.jobs.verify import VerifyRequest, verify
from edgead.line.service import Station
from edgead.manifest import READABLE, SCHEMA
from edgead.runtime.records.database import SCHEMA_VERSION
from edgead.runtime.records.history import History, Selection
from edgead.runtime.records.replay import Trial, replay
from edgead.trained import ModelCard
from edgead.types import Verdict

EARLIER = Path(__file__).parent / "fixtures/earlier"
SCHEMAS = {"08daf1e": (1, 0), "89053bd": (2, 1), "65f1687": (3, 1), "d56ce55": (3, 2)}
"""Commit -> schema of its bundle, and of its records (0: there are none)."""
DEFECTS = (4, 8)  # parts that its pictures show with a defect, counted from 1

each = pytest.mark.parametrize("commit", SCHEMAS)
with_records = pytest.mark.parametrize("commit", [commit for commit, (_, records) in SCHEMAS.items() if records])


@pytest.fixture
def earlier(commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what that commit wrote, and the folder that we are in: addresses of cameras are relative to that."""
    folder = Path(shutil.copytree(EARLIER / commit, tmp_path / commit))
    monkeypatch.chdir(folder)
    return folder


def told(records: Path) -> list[tuple[int, str]]:
    """Part and verdict of each record."""
    with History(records) as history:
        return [(row["part_id"], row["verdict"]) for row in history.rows()]


def test_each_fixture_has_its_schemas_and_is_small() -> None:
    for commit, (bundle, records) in SCHEMAS.items():
        folder = EARLIER / commit
        assert f'"schema": {bundle},' in (folder / "part.edgead/manifest.json").read_text("utf-8")
        if records:
            with contextlib.closing(sqlite3.connect(f"file:{folder}/data/top/records.db?immutable=1", uri=True)) as database:
                assert database.execute("PRAGMA user_version").fetchone() == (records,)
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 100_000
    assert SCHEMAS.keys() == {folder.name for folder in EARLIER.iterdir() if folder.is_dir() and folder.name != "__pycache__"}


HOW = """schema {} of {} has no fixture: what a commit wrote with it must be kept before the code goes on
    git worktree add --detach /tmp/then COMMIT        (the last one that wrote this schema)
    PYTHONPATH=/tmp/then python tests/fixtures/earlier/make.py tests/fixtures/earlier/COMMIT
and a line for COMMIT in SCHEMAS (tests/test_earlier.py) and in the table of make.py"""


def test_every_schema_that_is_read_has_a_fixture() -> None:
    """A new number fails here until something that the code of that number wrote is kept."""
    newest_card = next(one.default for one in dataclasses.fields(ModelCard) if one.name == "edgead_model")
    cards = {json.loads((EARLIER / commit / "model/model.json").read_text("utf-8"))["edgead_model"] for commit in SCHEMAS}
    kept = {
        "bundles": (READABLE, {bundle for bundle, _ in SCHEMAS.values()}),
        "records": (range(1, SCHEMA_VERSION + 1), {records for _, records in SCHEMAS.values()}),
        "trained models": (range(1, newest_card + 1), cards),
        "the dashboard's database": (range(1, reviews.SCHEMA_VERSION), set()),  # of former ones; there is none yet
    }
    assert max(READABLE) == SCHEMA, "a schema that is written must be read"
    missing = [HOW.format(number, what) for what, (read, there) in kept.items() for number in read if number not in there]
    assert not missing, "\n".join(missing)


@each
def test_a_bundle_is_verified_and_written_again_without_losing_its_threshold(earlier: Path) -> None:
    before = Bundle.open(earlier / "part.edgead").manifest.engines[0]
    found = verify(VerifyRequest(earlier / "part.edgead"))
    assert found.passed and [one.name for one in found.engines] == ["onnxruntime-fp32"] and found.golden >= 3
    assert main(["threshold", str(earlier / "part.edgead"), "--set", "0.2"]) == 0
    assert main(["threshold", str(earlier / "part.edgead"), "--undo"]) == 0
    after = Bundle.open(earlier / "part.edgead").manifest.engines[0]
    assert after.threshold.rule == before.threshold.rule and len(after.history) > len(before.history)


@each
def test_a_model_is_exported_again_and_decides_the_same(earlier: Path) -> None:
    options = ExportOptions(backends=("onnxruntime",), precisions=("fp32",), threads=1)
    made = export_bundle(earlier / "model", earlier / "again.edgead", options).manifest.engines[0]
    then = Bundle.open(earlier / "part.edgead").manifest.engines[0].at_export
    assert made.threshold.value == pytest.approx(then.value, rel=1e-5)


@each
def test_the_station_file_runs_and_judges_as_it_did_then(earlier: Path) -> None:
    with Station.from_file(earlier / "station.yaml") as station:
        seen: list[Verdict] = []
        station.on_inspection(lambda found: seen.append(found.verdict), capacity=100).run()
    assert [part for part, verdict in enumerate(seen, 1) if verdict is Verdict.NG] == list(DEFECTS)
    assert len(seen) == 12 and set(seen) == {Verdict.OK, Verdict.NG}


@each
def test_the_example_of_a_station_file_is_still_read(earlier: Path) -> None:
    assert [camera.name for camera in read_station(earlier / "example.yaml").cameras] == ["top"]


@with_records
def test_records_are_read_as_they_are_and_carried_over_by_the_station_that_goes_on_in_them(earlier: Path, commit: str) -> None:
    expected = [(part, "NG" if part in DEFECTS else "OK") for part in range(1, 13)]
    file = earlier / "data/top/records.db"
    was = file.read_bytes()
    assert told(file) == expected
    assert main(["records", str(file), "--summary"]) == 0
    assert file.read_bytes() == was, "a reader changes nothing"
    with Station.from_file(earlier / "station.yaml") as station:
        station.run(max_parts=3)
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert told(file) == [*expected, (13, "OK"), (14, "OK"), (15, "OK")]  # the first pictures of the folder, with new numbers
    with History(file) as history:
        again = replay(history, Selection(), Trial(threshold=-1.0))
    known = 12 if SCHEMAS[commit][1] > 1 else 0
    assert (again.after, again.unknown + again.left_out) == ({"NG": 3 + known}, 12 - known)


TOLD = {"cameras..max_age_ms"}
"""Changed on purpose, as CHANGELOG.md tells: of 1000 ms where there is no trigger."""


def settings(schema: dict[str, Any], of: dict[str, Any], before: str = "") -> Iterator[tuple[str, bool, Any]]:
    """Each key of a station file by a schema: where and its name, must it be given, what it is unless one says otherwise."""
    for name, one in of.get("properties", {}).items():
        if "const" in one:
            continue  # which section it is
        default = one.get("default")
        yield f"{before}{name}", name in of.get("required", ()), None if isinstance(default, (dict, list)) else default
        for inner in alternatives(schema, one):
            words = inner["properties"]
            kind = next((words[key]["const"] for key in ("type", "source") if "const" in words.get(key, {})), "")
            yield from settings(schema, inner, f"{before}{name}.{kind}.")


def alternatives(schema: dict[str, Any], one: Any) -> Iterator[dict[str, Any]]:
    """The sections that may stand in a key's place, or in its list."""
    if not isinstance(one, dict):
        return
    one = schema["$defs"][one["$ref"].rsplit("/", 1)[-1]] if "$ref" in one else one
    if "properties" in one:
        yield one
    for inner in (one.get("items"), one.get("additionalProperties"), *one.get("anyOf", ()), *one.get("oneOf", ())):
        yield from alternatives(schema, inner)


@pytest.mark.parametrize("commit", [commit for commit in SCHEMAS if (EARLIER / commit / "station.schema.json").exists()])
def test_a_key_of_a_station_file_stays_and_means_what_it_meant(commit: str) -> None:
    old, new = json.loads((EARLIER / commit / "station.schema.json").read_text("utf-8")), schema()
    then = {key: (needed, default) for key, needed, default in settings(old, old)}
    now = {key: (needed, default) for key, needed, default in settings(new, new)}
    assert len(then) > 100
    gone = [key for key in then if key not in now]
    other = [key for key in then if key in now and now[key][1] != then[key][1] and key not in TOLD]
    sections = {key.rpartition(".")[0] for key in then}
    asked = [key for key in now if now[key][0] and key.rpartition(".")[0] in sections and not then.get(key, (False, 0))[0]]
    assert (gone, other, asked) == ([], [], []), (
        f"station files of {commit} would be refused or mean something else (docs/compatibility.md): keep the key, or refuse it "
        "by name with what takes its place, say so in CHANGELOG.md, and name it in TOLD"
    )
