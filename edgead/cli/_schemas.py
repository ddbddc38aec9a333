"""docs/json.md, made from the classes that --json prints: `python -m edgead.cli._schemas > docs/json.md`."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgead.cli._json import schema
from edgead.typed import Rest

RESULTS: Mapping[str, Mapping[str, str]] = {
    "demo": {"": "edgead.demo.report:Facts"},
    "capture": {"": "edgead.capture.session:Captured"},
    "train": {"": "edgead.cli._trained:Model", "auto": "edgead.cli._auto:Chosen"},
    "pretrain": {"": "edgead.jobs.pretrain:Pretrained"},
    "distill": {"": "edgead.jobs.distill:Distilled"},
    "import": {"": "edgead.cli._imported:ImportedModel"},
    "export": {"": "edgead.cli._exported:Exported", "on-device": "edgead.cli._on_device:OnDevice"},
    "factory": {"": "edgead.jobs.factory.run:Factory"},
    "verify": {"": "edgead.jobs.verify:VerifyResult"},
    "sign": {"sign": "edgead.cli.sign:Signed", "new-key": "edgead.cli.sign:NewKey"},
    "inspect": {"": "edgead.cli.inspect:Inspected + edgead.manifest:Manifest"},
    "push": {"": "edgead.oci.transfer:Pushed"},
    "pull": {"": "edgead.jobs.pull:Brought"},
    "bundle": {"history": "edgead.cli.bundle:History", "restore": "edgead.cli.bundle:Restored"},
    "weights": {
        "list": "edgead.cli.weights:Listed",
        "fetch": "edgead.jobs.weights:Fetched",
        "verify": "edgead.jobs.weights:Verified",
    },
    "threshold": {"": "edgead.cli._thresholds:Thresholds"},
    "show": {"": "edgead.jobs.show:Shown"},
    "evaluate": {"": "edgead.jobs.evaluate:Evaluated"},
    "score": {"": "edgead.jobs.scoring.job:Scored"},
    "bench": {"": "edgead.jobs.bench:BenchResult"},
    "run": {"": "edgead.cli._told:Ran"},
    "serve": {"": "edgead.serving.server:ServeResult"},
    "serve-files": {"": "edgead.serving.files:ServeFiles"},
    "init": {"": "edgead.line.drafting:Drafted"},
    "station": {
        "check": "edgead.line.checking:Checked",
        "schema": "edgead.cli.station:Schema",
        "example": "edgead.cli.station:Example",
    },
    "records": {
        "": "edgead.cli.records:Row",
        "summary": "edgead.runtime.records.history:Summary",
        "replay": "edgead.cli._replayed:Replayed",
        "changes": "edgead.cli._replayed:Change",
        "shadow": "edgead.runtime.records.shadows:Shadowed",
    },
    "dashboard": {"": "edgead.cli.dashboard:Served"},
    "users": {
        "add": "edgead.cli.users:Listed",
        "token": "edgead.cli.users:Made",
        "remove": "edgead.cli.users:Listed",
        "list": "edgead.cli.users:UserList",
    },
    "fleet": {"status": "edgead.jobs.fleet:FleetState"},
    "cameras": {"": "edgead.jobs.cameras:Cameras"},
    "plc-map": {"": "edgead.cli.plc_map:Map"},
    "deploy-files": {"": "edgead.jobs.deploy_files:Written"},
    "docs": {"": "edgead.jobs.manual:Pages"},
    "doctor": {"": "edgead.jobs.doctor.check:Findings"},
}
"""Verb -> action -> the dataclass (or several, one after the other) that its --json prints. "" where it prints no action."""

HEAD = """# What `--json` prints

Generated from the result types by `python -m edgead.cli._schemas > docs/json.md`; do not edit.

With `--json` a verb prints one object and nothing else on standard output; what it tells on the way and what goes wrong stays on
standard error, and the exit codes are the same. `schema` comes first: the verb and a version. Within a version fields are only
added; a field that goes, or means another thing, makes a new one. Where a verb has several answers, `action` says which it is.
NaN and infinity are null, paths are text. `edgead records --json` prints an object a line.
"""

_WORDS = {str: "text", Path: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "any"}


def results(verb: str, action: str) -> list[type]:
    """The classes whose fields are printed."""
    found = []
    for target in RESULTS[verb][action].split(" + "):
        module, _, name = target.partition(":")
        found.append(getattr(importlib.import_module(module), name))
    return found


def markdown() -> str:
    """The page."""
    parts = [HEAD]
    for verb, answers in RESULTS.items():
        for action in answers:
            classes = results(verb, action)
            about = (inspect.getdoc(classes[0]) or "").partition("\n\nAttributes:")[0].replace("\n", " ")
            parts.append(f"## edgead {verb}{f': {action}' if action else ''}\n\n{about}\n")
            parts.append(_table(schema(verb), action, classes))
    return "\n".join(parts)


def _table(name: str, action: str, classes: list[type]) -> str:
    rows = [("schema", "text", f'"{name}"')]
    if action:
        rows.append(("action", "text", f'"{action}"'))
    seen: dict[type, str] = {}
    rows += [row for cls in classes for row in rows_of(cls, "", seen)]
    lines = ["| field | is | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{field}` | {kind} | {_cell(meaning)} |" for field, kind, meaning in rows), ""])


def rows_of(cls: type, before: str, seen: dict[type, str]) -> Iterator[tuple[str, str, str]]:
    """Field, kind and meaning of each field of a dataclass, and of the dataclasses inside, each of them once.

    Args:
        before: what stands before the names.
        seen: where which dataclass was listed.
    """
    hints, meanings = typing.get_type_hints(cls), attributes(cls)
    for field in dataclasses.fields(cls):
        name, meaning = f"{before}{field.name}", meanings.get(field.name, "")
        if field.name == rest_of(cls):
            yield f"{before}*", "any", meaning or "keys of other tools and newer edgeads"
            continue
        kind, inner = kind_of(hints[field.name])
        place = f"{name}[]" if kind.startswith("list") else name
        if inner in seen:
            meaning += f" (fields as of `{seen[inner]}`)"
        yield name, kind, meaning
        if inner is not None and inner not in seen:
            seen[inner] = place
            yield from rows_of(inner, f"{place}.", seen)


def rest_of(cls: type) -> str | None:
    """The field that holds all keys that the dataclass does not name: they stand beside the others."""
    hints = typing.get_type_hints(cls, include_extras=True).items()
    return next((name for name, hint in hints if any(isinstance(note, Rest) for note in getattr(hint, "__metadata__", ()))), None)


def kind_of(hint: Any) -> tuple[str, type | None]:
    """What JSON has for a type, and the dataclass inside, if there is one."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind_of(one) for one in args]
        return " or ".join(dict.fromkeys(kind for kind, _ in kinds)), next((inner for _, inner in kinds if inner), None)
    if origin is typing.Literal:
        return " or ".join(f'"{one}"' for one in args), None
    if origin is not None and issubclass(origin, Mapping):
        return f"object of {kind_of(args[1])[0]}", None
    if origin is not None and issubclass(origin, Sequence | set | frozenset):
        members = {kind_of(one) for one in args if one is not Ellipsis}
        kind, inner = members.pop() if len(members) == 1 else ("any", None)
        return f"list of {kind}", inner
    if dataclasses.is_dataclass(hint):
        return "object", typing.cast(type, hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(f'"{one.value}"' for one in hint), None
    return _WORDS.get(hint, "any"), None


def attributes(cls: type) -> dict[str, str]:
    """What the class's docstring says of its attributes: `name: text`, or `name, name: text`."""
    found: dict[str, str] = {}
    text = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    for match in re.finditer(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", text, re.MULTILINE):
        meaning = re.sub(r"\s+", " ", match[2]).strip(" .,")
        meaning = re.sub(r":\w+:`(?:[\w.]+\.)?(\w+)`", r"`\1`", meaning).replace("``", "").replace("None", "null")
        found.update(dict.fromkeys(match[1].split(", "), meaning))
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
