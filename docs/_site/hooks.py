"""What the site is made of besides the pages in docs/: a page a verb from its command, station.yaml from its schema, the Python
API from its docstrings, causes and metrics from the code that tells them, what a plant needs, the families' own pages. Links out
of docs/ lead to these copies.
"""

from __future__ import annotations

import importlib
import inspect
import posixpath
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
COPIED = {"edgead/deploy/": "plant/", "benchmarks/results/": "results/", "edgead/families/": "families/"}
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)]*)?\))")


def on_config(config: Any) -> Any:
    """Put lists of pages where the navigation names a folder."""
    config.nav = [_spread(entry) for entry in config.nav]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and files that are made here."""
    for uri, content in _made().items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to what lies outside docs/ lead to the copies."""
    here = page.file.src_uri
    source = _SOURCES.get(here, f"docs/{here}")
    return _LINK.sub(lambda m: f"{m[1]}{_leads(m[2], source, here)}{m[3]}", markdown)


_SOURCES: dict[str, str] = {}
"""Page of the site -> the file in the repository that it is a copy of."""


def _spread(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {title: _spread(inner) for title, inner in entry.items()}
    if isinstance(entry, list):
        return [_spread(one) for one in entry]
    return _FOLDERS[entry]() if entry in _FOLDERS else entry


def _leads(target: str, source: str, here: str) -> str:
    if "://" in target or target.startswith(("/", "mailto:")):
        return target
    whole = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    for prefix, folder in COPIED.items():
        if whole.startswith(prefix):
            name = whole.removeprefix(prefix).removesuffix("/README.md")
            page = f"{folder}{name}" + (".md" if whole.endswith("/README.md") else "")
            return posixpath.relpath(page, posixpath.dirname(here) or ".")
    if whole.startswith("docs/"):
        return posixpath.relpath(whole.removeprefix("docs/"), posixpath.dirname(here) or ".")
    return target


def _made() -> dict[str, str | bytes]:
    made: dict[str, str | bytes] = {f"verbs/{name}.md": _verb(name) for name in _verbs()}
    made["station-file.md"] = "\n".join(_station())
    made["python-api.md"] = "\n".join(_api())
    made["causes.md"] = "\n".join(_causes())
    made["metrics.md"] = "\n".join(_metrics())
    for file in sorted((ROOT / "edgead/deploy").rglob("*")):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            uri = f"plant/{file.relative_to(ROOT / 'edgead/deploy').as_posix()}".replace("/README.md", ".md")
            made[uri] = file.read_bytes() if file.suffix != ".md" else file.read_text("utf-8")
            _SOURCES[uri] = file.relative_to(ROOT).as_posix()
    for page in sorted((ROOT / "edgead/families").glob("*/README.md")):
        made[f"families/{page.parent.name}.md"] = page.read_text("utf-8")
        _SOURCES[f"families/{page.parent.name}.md"] = page.relative_to(ROOT).as_posix()
    for result in sorted((ROOT / "benchmarks/results").glob("*.json")):
        made[f"results/{result.name}"] = result.read_bytes()
    return made


def _verbs() -> list[str]:
    from edgead.cli.main import VERBS

    return list(VERBS)


def _verb(name: str) -> str:
    from edgead.cli.main import VERBS, root

    command = root().get_command(click.Context(root()), name)
    lines = [f"# edgead {name}", "", f"{VERBS[name][0].upper()}{VERBS[name][1:]}.", ""]
    for title, one in _commands(f"edgead {name}", command):
        helped = one.get_help(click.Context(one, info_name=title, max_content_width=110, terminal_width=110))
        lines += [*([] if title == f"edgead {name}" else [f"## {title}", ""]), "```text", click.unstyle(helped), "```", ""]
    return "\n".join(lines)


def _commands(title: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield title, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for action in command.list_commands(context):
            yield f"{title} {action}", command.get_command(context, action)


def _station() -> Iterator[str]:
    from edgead.config.reading import schema

    found = schema()
    yield from ("# station.yaml", "", found.get("description", ""), "")
    yield from ("Made from the schema that `edgead station schema` prints, by which every file is checked;", "")
    yield from ("`edgead station example` prints one to start from.", "")
    yield from _keys(found)
    for name, kind in sorted(found.get("$defs", {}).items()):
        yield from ("", f"## {_type_of(kind) or name}", "", kind.get("description", ""), "")
        yield from _keys(kind)


def _type_of(kind: dict[str, Any]) -> str:
    for key in ("type", "source"):
        if isinstance(value := kind.get("properties", {}).get(key, {}).get("const"), str):
            return f"{key}: {value}"
    return ""


def _keys(kind: dict[str, Any], before: str = "") -> Iterator[str]:
    if not before:
        yield from ("| key | is | default | |", "|---|---|---|---|")
    for key, one in kind.get("properties", {}).items():
        default = "needed" if key in kind.get("required", []) else _cell(one.get("default", ""))
        yield f"| `{before}{key}` | {_cell(_is(one))} | {default} | {_cell(one.get('description', ''))} |"
        inner = next((part for part in (one, *one.get("anyOf", [])) if "properties" in part), None)
        if inner is not None:
            yield from _keys(inner, f"{before}{key}.")


def _is(one: dict[str, Any]) -> str:
    if "$ref" in one:
        return str(one["$ref"]).rsplit("/", 1)[-1]
    if "const" in one:
        return str(one["const"])
    if "enum" in one:
        return ", ".join(map(str, one["enum"]))
    if "anyOf" in one or "oneOf" in one:
        return " or ".join(dict.fromkeys(_is(part) for part in one.get("anyOf", one.get("oneOf"))))
    if one.get("type") == "array":
        return f"list of {_is(one['items'])}" if isinstance(one.get("items"), dict) else "list"
    span = [f"{word} {one[key]:g}" for key, word in _BOUNDS.items() if key in one]
    return ", ".join([str(one.get("type", "any")), *span])


_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


_API = {
    "Training, export, verification, bundles": ("edgead.api", ("train", "export", "verify", "open")),
    "A bundle that judges pictures": ("edgead.jobs.score", ("Judge",)),
    "A station": ("edgead.line.service", ("Station",)),
    "What comes back": ("edgead.types", ("Inspection", "Verdict", "StageTimes", "Frame")),
    "Options of an export": ("edgead.export.options", ("ExportOptions",)),
    "Errors": ("edgead.errors", ("EdgeadError", "BadInput", "BundleError", "ParityFailed", "MissingExtra", "StorageError")),
}
"""What docs/compatibility.md promises to keep: title -> module and names."""


def _api() -> Iterator[str]:
    yield from ("# Python, name by name", "", "Made from the docstrings; [Python](python.md) shows how they go together.", "")
    for title, (module, names) in _API.items():
        yield from (f"## {title}", "")
        for name in names:
            found = getattr(importlib.import_module(module), name)
            yield from _described(name, found, "###")
            if inspect.isclass(found) and title in ("A station", "A bundle that judges pictures"):
                for inner, member in vars(found).items():
                    if not inner.startswith("_") and inspect.isroutine(member) and inspect.getdoc(member):
                        yield from _described(f"{name}.{inner}", getattr(member, "__func__", member), "####")


def _described(name: str, found: Any, level: str) -> Iterator[str]:
    yield from (f"{level} `{name}`", "")
    told = inspect.getdoc(found) or ""
    if not (inspect.isclass(found) and issubclass(found, (Enum, Exception))):
        told = f"{name.rpartition('.')[2]}({_arguments(found)})\n\n{told}"
    yield from ("```text", told.replace("`" * 3, ""), "```", "")


def _arguments(found: Any) -> str:
    """As they are written, one a line."""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    lines = []
    for one in inspect.signature(found).parameters.values():
        kind = "" if one.annotation is one.empty else f": {one.annotation}"
        default = "" if one.default is one.empty else f" = {getattr(one.default, '__name__', repr(one.default))}"
        lines.append(f"    {marks.get(one.kind, '')}{one.name}{kind}{default},\n")
    return "\n" + "".join(lines) if lines else ""


def _causes() -> Iterator[str]:
    from edgead.runtime.plc.signals import CAUSES, FAULTS

    yield from ("# Causes and errors", "")
    yield "Why a verdict is UNKNOWN: in records, JSON, metrics and logs by its name, for a PLC by its number (`cause`). What"
    yield "stands after a colon in a record (`engine_error: out of memory`) is for people. No number is ever used again."
    yield from ("", "| number | cause | |", "|---|---|---|")
    yield from (f"| {int(cause)} | `{cause.name.lower()}` | {_cell(text)} |" for cause, text in CAUSES.items())
    yield from (
        "",
        "## Errors of the handshake",
        "",
        "In `error_code` until the PLC acknowledges them ([handshake](handshake.md)).",
    )
    yield from ("", "| number | error | |", "|---|---|---|")
    yield from (f"| {int(fault)} | `{fault.name.lower()}` | {_cell(text)} |" for fault, text in FAULTS.items())


def _metrics() -> Iterator[str]:
    from edgead.runtime.supervision.metrics import Metrics

    yield from (
        "# Metrics",
        "",
        "What `/metrics` tells ([supervision](supervision.md)); `camera` is a camera's or a part's name.",
    )
    yield from ("", "| metric | kind | labels | |", "|---|---|---|---|")
    for family in Metrics({}, sysfs=ROOT / "nowhere").collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ()))
        yield f"| `{name}` | {family.type} | {labels} | {_cell(family.documentation)} |"


def _plant() -> list[str]:
    files = [uri for uri in _made() if uri.startswith("plant/") and uri.endswith(".md")]
    return sorted(files)


_FOLDERS = {
    "verbs": lambda: [f"verbs/{name}.md" for name in _verbs()],
    "families": lambda: sorted(uri for uri in _made() if uri.startswith("families/")),
    "plant": _plant,
    "decisions": lambda: sorted(f"decisions/{page.name}" for page in (ROOT / "docs/decisions").glob("*.md")),
}
