"""How would the shadow's bundle (:mod:`edgead.runtime.products.shadow`) have judged? From what was recorded of both."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgead.errors import BadInput
from edgead.runtime.records.basis import SETTLING
from edgead.runtime.records.history import SHOWN, History, Selection, percentiles

COLUMNS = {
    **SHOWN,
    "shadow_verdict": "TEXT",
    "shadow_cause": "TEXT",
    "shadow_score": "REAL",
    "shadow_threshold": "REAL",
    "shadow_engine": "TEXT",
    "shadow_ms": "REAL",
    "shadow_bundle": "TEXT",
}
"""What is told of a part on which the two differ: names and SQL types."""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What the line's bundle and the newest shadow said of the same parts.

    Attributes:
        parts: that both judged.
        not_judged: parts of the same span that the shadow did not judge: it was slower than the line, was not there, or had no
            picture.
        left_out: judged by an earlier shadow.
        line, shadow: how many of the parts each judged how, by verdict; of a free-running line before it settles.
        flips: on how many they differ, by "line>shadow", e.g. "OK>NG".
        engine, rule, bundle: the shadow's: the engine, its rule in words, SHA-256 of the bundle's manifest.
        first, last: UTC of the first and last part that both judged.
        latency_ms: of the shadow, from its beginning with a part to its verdict: p50, p95, p99 and max.
    """

    parts: int
    not_judged: int
    left_out: int
    line: dict[str, int]
    shadow: dict[str, int]
    flips: dict[str, int]
    engine: str
    rule: str
    bundle: str
    first: str
    last: str
    latency_ms: dict[str, float]


def shadowed(history: History, selection: Selection) -> Shadowed:
    """Compare them over a selection.

    Raises:
        BadInput: no shadow judged any of these parts.
        StorageError: the records cannot be read.
    """
    rules = history.rules()
    tallies: dict[tuple[str, str], _Tally] = {}
    newest, newest_seq = ("", ""), -1
    for row in history.with_shadow(selection):
        who = _who(rules[row["shadow_rule"]])
        tallies.setdefault(who, _Tally(rules[row["shadow_rule"]])).see(row)
        if row["shadow_seq"] > newest_seq:
            newest, newest_seq = who, row["shadow_seq"]
    if newest_seq < 0:
        raise BadInput("no shadow has judged any of these parts", hint="name one in the station's file: shadow: BUNDLE")
    found = tallies[newest]
    left_out = sum(tally.parts for tally in tallies.values()) - found.parts
    between = history.count(selection, found.seqs[0], found.seqs[-1])
    line, shadow, flips = (dict(one.most_common()) for one in (found.line, found.shadow, found.flips))
    engine, rule, bundle = (str(found.facts[name]) for name in ("engine", "says", "bundle"))
    not_judged = max(0, between - found.parts - left_out)
    latency_ms = percentiles(found.latencies)
    return Shadowed(
        found.parts, not_judged, left_out, line, shadow, flips, engine, rule, bundle, found.first, found.last, latency_ms
    )


@dataclass(slots=True)
class _Tally:
    """Of one shadow."""

    facts: Mapping[str, Any]
    line: Counter[str] = field(default_factory=Counter)
    shadow: Counter[str] = field(default_factory=Counter)
    flips: Counter[str] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    parts: int = 0
    seqs: tuple[int, int] = (0, 0)
    first: str = ""
    last: str = ""

    def see(self, row: Mapping[str, Any]) -> None:
        said, other = _plain(row), row["shadow_verdict"]
        self.line[said] += 1
        self.shadow[other] += 1
        if said != other:
            self.flips[f"{said}>{other}"] += 1
        if row["shadow_ms"] is not None:
            self.latencies.append(row["shadow_ms"])
        self.seqs = (self.seqs[0] if self.parts else row["seq"], row["seq"])
        self.first, self.last = self.first or row["time"], row["time"]
        self.parts += 1


def differing(history: History, selection: Selection) -> Iterator[dict[str, Any]]:
    """The parts on which line and shadow differ, by the names of `COLUMNS`. Raises StorageError."""
    said = {row["seq"]: row for row in history.with_shadow(selection) if _plain(row) != row["shadow_verdict"]}
    bundles = {number: facts["bundle"] for number, facts in history.rules().items()}
    for row in history.rows(selection):
        if (other := said.get(row["seq"])) is not None:
            shadow = {name: other[name] for name in COLUMNS if name in other and name not in row}
            yield {**row, **shadow, "shadow_bundle": bundles.get(other["shadow_rule"])}


def _plain(row: Mapping[str, Any]) -> str:
    """The line's verdict on the frame itself: the shadow does not settle."""
    return "OK" if row["cause"] == SETTLING else str(row["verdict"])


def _who(facts: Mapping[str, Any]) -> tuple[str, str]:
    return str(facts["bundle"]), str(facts["engine"])
