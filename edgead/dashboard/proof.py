"""The page for auditors: does the engine answer as the trained model did; measured where, when, by how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from edgead import __version__
from edgead.bundle import Bundle, EngineRecord
from edgead.dashboard.places import Place
from edgead.dashboard.words import guarantee
from edgead.parity import ParityReport
from edgead.words import plain

NOTHING = "not measured"
WHAT = (
    "The trained model's answers to the golden frames lie in the bundle. This is how far each engine's answers are from them, as "
    "the export measured it; the station asks its engine about golden frames again at every start, and refuses one that differs."
)
NUMBERS = (
    "Errors: the largest difference over the range of the trained model's maps. Score deviation: the mean difference of scores "
    "over their standard deviation."
)


def page(place: Place, bundle: Bundle, record: EngineRecord, state: Mapping[str, Any], now: datetime) -> str:
    """HTML without scripts; every text in it comes from files and is escaped."""
    manifest = bundle.manifest
    says = state.get("digest", "")
    told = [
        ("camera", place.id),
        ("bundle", bundle.path.name),
        ("product", manifest.name),
        ("SHA-256 of the bundle", bundle.digest),
        (
            "the station runs",
            "it is silent now" if not says else "this bundle" if says == bundle.digest else f"another one: {says}",
        ),
        ("signed", "yes" if bundle.is_signed else "no"),
        ("exported", manifest.created_at),
        ("on", _line(manifest.machine)),
        ("with", _line(manifest.tools)),
        ("golden frames", str(manifest.golden)),
        ("engine that judges", record.name),
        ("rule", record.threshold.rule.describe()),
        ("promise", guarantee(record.threshold)),
    ]
    engines = [_engine(one, one.name == record.name) for one in manifest.engines]
    head = (
        "engine",
        "precision",
        "frames",
        "score error",
        "map error",
        "score deviation",
        "labels that differ",
        "AUROC",
        "built with",
    )
    return "\n".join((
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Proof: {_text(place.id)}</title>",
        '<link rel="stylesheet" href="/static/proof.css"></head><body>',
        f"<h1>Same answer: {_text(place.id)}</h1>",
        f"<p>{WHAT}</p>",
        _table((), told),
        "<h2>Engines</h2>",
        _table(head, engines),
        f"<p>{NUMBERS}</p>",
        f"<p>Printed by edgead {_text(__version__)}, {_text(now.isoformat(timespec='seconds'))}</p>",
        "</body></html>",
    ))  # fmt: skip


def _engine(record: EngineRecord, judges: bool) -> tuple[str, ...]:
    name = f"{record.name} (judges)" if judges else record.name
    auroc = NOTHING if record.auroc is None else f"{record.auroc:.4f}"
    return (name, record.precision, *_parity(record.parity), auroc, _line(record.built_with))


def _parity(found: ParityReport | None) -> tuple[str, ...]:
    if found is None:
        return (NOTHING,) * 5
    numbers = (found.score_error, found.map_error, found.score_deviation)
    return (str(found.frames), *(f"{value:.3g}" for value in numbers), str(found.label_flips))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<table>"]
    if head:
        lines.append(f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>")
    lines += [f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _line(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items() if isinstance(value, (str, int, float)) and value != "")


def _text(text: str) -> str:
    return escape(plain(text))
