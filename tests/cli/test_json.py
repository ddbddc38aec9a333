"""What --json prints is what docs/json.md says: the fields, in their order, of these kinds, nothing else on standard output."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any

import pytest

from edgead.cli._schemas import RESULTS, markdown, rest_of, results
from edgead.cli.main import VERBS, main
from edgead.jobs.plain import plain_of
from edgead.runtime.records.history import SHOWN
from edgead.runtime.records.store import RecordStore
from tests.bundles import Tiny
from tests.cli.test_command_line import commands
from tests.runtime.parts import record

ROOT = Path(__file__).resolve().parents[2]


def fits(value: Any, hint: Any) -> bool:
    """Is this, out of JSON, what a class has there?"""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, UnionType):
        return any(fits(value, one) for one in args)
    if origin is typing.Literal:
        return value in args
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(fits(one, args[1]) for one in value.values())
    if origin is not None and issubclass(origin, Sequence):
        return isinstance(value, list) and (args[-1] is not Ellipsis or all(fits(one, args[0]) for one in value))
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        needed = {one.name for one in dataclasses.fields(hint) if one.default is one.default_factory is dataclasses.MISSING}
        known = isinstance(value, dict) and needed <= set(value) and (rest_of(hint) is not None or set(value) <= set(hints))
        return known and all(fits(one, hints[name]) for name, one in value.items() if name in hints)
    if issubclass(hint, Enum):
        return value in {one.value for one in hint}
    plain = {Path: str, float: (int, float), int: int, bool: bool, str: str, type(None): type(None)}
    return isinstance(value, plain[hint]) and (hint is bool or not isinstance(value, bool))


def printed(capsys: pytest.CaptureFixture[str], verb: str, *arguments: object, action: str = "", code: int = 0) -> dict[str, Any]:
    """The object that a verb prints; it must be as its class says."""
    capsys.readouterr()
    assert main([verb, *map(str, arguments), "--json"]) == code
    shown = capsys.readouterr()
    found: dict[str, Any] = json.loads(shown.out)
    expected = {"schema": f"edgead.{verb}/1", **({"action": action} if action else {})}
    assert {name: found.pop(name) for name in list(found)[: len(expected)]} == expected
    hints = {name: hint for cls in results(verb, action) for name, hint in typing.get_type_hints(cls).items()}
    assert list(found) == list(hints)
    assert [name for name, hint in hints.items() if not fits(found[name], hint)] == []
    return found


def test_the_page_is_made_from_the_classes() -> None:
    assert (ROOT / "docs/json.md").read_text("utf-8") == markdown(), "python -m edgead.cli._schemas > docs/json.md"


def test_every_verb_and_action_has_json_and_a_schema_that_says_what_each_field_means() -> None:
    for name, command in commands():
        verb, _, action = name.partition(" ")
        if not hasattr(command, "commands"):
            assert any("--json" in param.opts for param in command.params), name
            assert not action or action in RESULTS[verb], name
    assert set(RESULTS) <= set(VERBS)
    assert not re.findall(r"^\| `\w+` \|.*\|  \|$", markdown(), re.MULTILINE)


def test_cameras_doctor_and_map(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert printed(capsys, "cameras")["not_looked_for"] is not None
    assert printed(capsys, "doctor")["ok"] is True
    assert printed(capsys, "plc-map")["files"] == []
    found = printed(capsys, "plc-map", tmp_path, "--to-plc-address", 40)
    assert str(tmp_path / "modbus.csv") in found["files"]
    assert found["signals"][0]["register"] == 40 and found["signals"][0]["modicon"] == 400041


def test_records_are_an_object_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for part in range(3):
        store.write(record(part))
    store.close()
    assert main(["records", str(tmp_path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["part_id"] for row in rows] == [0, 1, 2]
    assert all(list(row) == ["schema", *SHOWN] and row["schema"] == "edgead.records/1" for row in rows)
    assert printed(capsys, "records", tmp_path, "--limit", 1)["views"] == []
    assert printed(capsys, "records", tmp_path, "--summary", action="summary")["parts"] == 3


def test_bundles_and_keys(capsys: pytest.CaptureFixture[str], tiny: Tiny, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny.bundle(), tmp_path / "part.edgead")
    seen = printed(capsys, "inspect", bundle)
    history = printed(capsys, "bundle", "history", bundle, action="history")
    assert (seen["created_at"], seen["family"]) == (history["made"], "patchcore")
    key = printed(capsys, "sign", "--new-key", tmp_path / "line.pem", action="new-key")
    signed = printed(capsys, "sign", bundle, "--key", key["key"], action="sign")
    assert (signed["sha256"], signed["fingerprint"]) == (seen["sha256"], key["fingerprint"])


def test_what_a_box_does_with_a_bundle(capsys: pytest.CaptureFixture[str], tiny: Tiny, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny.bundle(), tmp_path / "part.edgead")
    engines = [engine["name"] for engine in printed(capsys, "inspect", bundle)["engines"]]
    one = ("--engine", engines[0])
    assert printed(capsys, "verify", bundle, *one)["engines"]
    assert printed(capsys, "threshold", bundle)["engines"]
    assert printed(capsys, "threshold", bundle, *one, "--set", 1.5, "--dry-run")["engines"]
    assert printed(capsys, "bench", bundle, *one, "--rounds", 1, "--warmup", 1, "--no-cold", "--frame", "64x64")["results"]
    records = tmp_path / "records.jsonl"
    assert printed(capsys, "run", bundle, "--camera", "sim:fps=50", "--max-parts", 2, "--records", records)["lanes"]


def test_stations(capsys: pytest.CaptureFixture[str], tiny: Tiny, tmp_path: Path) -> None:
    text = printed(capsys, "station", "example", action="example")["text"]
    assert printed(capsys, "station", "schema", action="schema")["document"]["properties"]["cameras"]
    (tmp_path / "station.yaml").write_text(text.replace("flange.edgead", str(tiny.bundle())), "utf-8")
    assert printed(capsys, "station", "check", tmp_path / "station.yaml", action="check")["cameras"] == ["top"]


def test_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "weights", "list", action="list")["backbones"]


def test_what_json_has_no_word_for() -> None:
    assert plain_of({"a": math.nan, "b": (math.inf, 1.5), "c": Path("x")}) == {"a": None, "b": [None, 1.5], "c": "x"}
