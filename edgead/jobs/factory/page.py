"""The products of a run as one HTML page: no script, nothing from outside; it links to folders and reports beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from edgead.disk import write_file
from edgead.errors import StorageError
from edgead.jobs.factory.made import Made
from edgead.words import plain

TITLES = (
    "product",
    "method",
    "state",
    "AUROC",
    "engine",
    "p99 ms",
    "budget ms",
    "size",
    "pictures",
    "train s",
    "export s",
    "sha256",
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; }} body {{ font: 15px system-ui, sans-serif; margin: 1.5rem; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #8884; }}
.failed {{ color: #c22; }} code {{ overflow-wrap: anywhere; }}
</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
{failures}
<table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table>
</body></html>
"""


def cells(one: Made) -> Iterator[str]:
    """A row of `TITLES`, "-" for what is not known."""
    yield from (one.name, one.method, one.state)
    yield "-" if one.auroc is None else f"{one.auroc:.4f}{' (drawn)' if one.drawn else ''}"
    yield one.engine or "-"
    yield from ("-" if value is None else f"{value:.1f}" for value in (one.p99_ms, one.budget_ms))
    yield f"{one.width} x {one.height}" if one.width else "-"
    yield str(one.pictures or "-")
    yield from (f"{value:.0f}" if value else "-" for value in (one.train_s, one.export_s))
    yield one.sha256[:12] or "-"


def write_page(folder: Path, manifest: Path, products: Sequence[Made]) -> Path:
    """Write FOLDER/index.html in one step. Raises StorageError."""
    failed = [one for one in products if one.state == "failed"]
    counts = ", ".join(
        f"{count} {state}" for state in ("made", "unchanged", "failed") if (count := sum(one.state == state for one in products))
    )
    text = _PAGE.format(
        title=_text(f"edgead factory: {manifest.name}"),
        about=_text(f"{len(products)} products: {counts}."),
        failures="".join(_failure(one) for one in failed),
        head="".join(f"<th>{title}</th>" for title in TITLES),
        rows="\n".join(_row(one) for one in products),
    )
    target = folder / "index.html"
    try:
        write_file(target, text.encode())
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}", hint="make room") from error
    return target


def _failure(one: Made) -> str:
    hint = f"<br>{_text(one.hint)}" if one.hint else ""
    return f'<p class="failed"><b>{_text(one.name)}</b> failed at {_text(one.step)}: {_text(one.why)}{hint}</p>\n'


def _row(one: Made) -> str:
    name, *others = cells(one)
    report = one.folder / "report.html"
    links = f'<a href="{_link(one.folder, one)}/">{_text(name)}</a>'
    if one.state != "failed" and report.is_file():
        links += f' <a href="{_link(report, one)}">report</a>'
    return f'<tr class="{one.state}"><td>{links}</td>{"".join(f"<td>{_text(cell)}</td>" for cell in others)}</tr>'


def _link(path: Path, one: Made) -> str:
    return escape(quote(os.path.relpath(path, one.folder.parent)))


def _text(text: str) -> str:
    return escape(plain(text))
