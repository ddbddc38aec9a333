"""A page as blocks, written as one self-contained HTML file or as Markdown with its pictures beside it. No network, no script."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import storage_errors


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; `tone` is ``""``, ``"good"``, ``"bad"``, ``"warning"`` or ``"faint"``."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A few figures to see at once: (what, value, note)."""

    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is text, the others are right-aligned unless named in `text_columns`, which may be long."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture, ``"svg"`` or ``"jpeg"``; `name` is its file's stem in Markdown."""

    name: str
    data: bytes
    kind: str
    alt: str


Block = Heading | Text | Tiles | Table | Picture

CSS = """
:root { --ink: #22262b; --faint: #6b727b; --line: #e3e6ea; --paper: #fff; --back: #f4f5f7; --good: #1f7a5a; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 40px 28px 60px; background: var(--paper); min-height: 100vh; }
h1 { font-size: 27px; margin: 0 0 2px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 44px 0 10px; padding-top: 18px; border-top: 1px solid var(--line); }
p { margin: 8px 0; max-width: 78ch; }
p.faint, .sub { color: var(--faint); font-size: 14px; }
p.good, p.bad, p.warning { padding: 11px 15px; border-left: 4px solid; border-radius: 3px; max-width: none; }
p { overflow-wrap: anywhere; }
p.good { background: #e9f5ef; border-color: var(--good); }
p.bad { background: #fbeae8; border-color: var(--bad); }
p.warning { background: #fdf4e3; border-color: #c98a12; }
.tiles { display: flex; flex-wrap: wrap; gap: 14px; margin: 20px 0; }
.tile { flex: 1 1 190px; border: 1px solid var(--line); border-radius: 8px; padding: 13px 16px; }
.tile b { display: block; font-size: 25px; font-weight: 650; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 13px; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 12px 0; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 10px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
td { white-space: nowrap; }
th { color: var(--faint); font-weight: 600; font-size: 12.5px; }
th.text, td.text { text-align: left; }
td.long { white-space: normal; }
img { width: 100%; height: auto; display: block; margin: 12px 0; }
@media print { body { background: #fff; } main { padding: 0; } h2 { break-after: avoid; } img, table { break-inside: avoid; } }
"""


def write_html(target: Path, title: str, subtitle: str, blocks: Sequence[Block]) -> None:
    """One file with everything in it.

    Raises:
        StorageError: it cannot be written.
    """
    body = "\n".join(_html(block) for block in blocks)
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="sub">{html.escape(subtitle)}</p>\n{body}\n</main>\n</body>\n</html>\n'
    )
    with storage_errors(target):
        target.write_text(page, "utf-8")


def write_markdown(target: Path, title: str, subtitle: str, blocks: Sequence[Block]) -> None:
    """The text, and the pictures in the folder ``STEM_files`` beside it.

    Raises:
        StorageError: it cannot be written.
    """
    folder = target.with_name(f"{target.stem}_files")
    parts = [f"# {_plain(title)}", _plain(subtitle)]
    with storage_errors(target):
        for block in blocks:
            if isinstance(block, Picture):
                folder.mkdir(exist_ok=True)
                file = folder / f"{block.name}.{block.kind}"
                file.write_bytes(block.data)
                place = f"{folder.name}/{file.name}".replace(" ", "%20")
                parts.append(f"![{_plain(block.alt)}]({place})")
            else:
                parts.append(_markdown(block))
        target.write_text("\n\n".join(parts) + "\n", "utf-8")


def _html(block: Block) -> str:
    escape = html.escape
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f'<p class="{block.tone}">{escape(block.text)}</p>' if block.tone else f"<p>{escape(block.text)}</p>"
    if isinstance(block, Tiles):
        tiles = [
            f'<div class="tile"><span>{escape(what)}</span><b>{escape(value)}</b><span>{escape(note)}</span></div>'
            for what, value, note in block.items
        ]
        return f'<div class="tiles">{"".join(tiles)}</div>'
    if isinstance(block, Picture):
        kind = "svg+xml" if block.kind == "svg" else block.kind
        return f'<img alt="{escape(block.alt)}" src="data:image/{kind};base64,{base64.b64encode(block.data).decode()}">'
    texts = ["text long" if name in block.text_columns else "" if i else "text" for i, name in enumerate(block.header)]
    rows = [_row("th", block.header, texts), *(_row("td", row, texts) for row in block.rows)]
    return f'<div class="scroll"><table>\n{chr(10).join(rows)}\n</table></div>'


def _row(tag: str, cells: Sequence[str], classes: Sequence[str]) -> str:
    told = [f'<{tag} class="{kind}">{html.escape(cell)}</{tag}>' for cell, kind in zip(cells, classes, strict=True)]
    return f"<tr>{''.join(told)}</tr>"


def _markdown(block: Heading | Text | Tiles | Table) -> str:
    if isinstance(block, Heading):
        return f"## {_plain(block.text)}"
    if isinstance(block, Text):
        return f"> {_plain(block.text)}" if block.tone in {"good", "bad", "warning"} else _plain(block.text)
    if isinstance(block, Tiles):
        block = Table(("figure", "value", "note"), block.items, ("note",))
    sides = [":--" if i == 0 or name in block.text_columns else "--:" for i, name in enumerate(block.header)]
    rows = (block.header, sides, *block.rows)
    return "\n".join(f"| {' | '.join(c if row is sides else _plain(c) for c in row)} |" for row in rows)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
