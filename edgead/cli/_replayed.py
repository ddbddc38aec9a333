"""`edgead records --replay`, `--shadow` and `--changes`: what other thresholds and other bundles would have said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgead.cli._json import print_json
from edgead.words import plain

if TYPE_CHECKING:
    from edgead.runtime.records.replay import Replay, Trial
    from edgead.runtime.records.shadows import Shadowed

VERDICTS = ("OK", "NG", "UNKNOWN")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What another threshold would have said of these parts (edgead docs records).

    Attributes:
        threshold, min_area: what was tried.
        parts: judged again.
        before, after: how many of them were told, and would have been, with each verdict.
        flips: how many changed, by "from>to".
        left_out: parts that another engine or another kind of rule judged.
        unknown: parts of which the level is not recorded.
        first, last: UTC of the first and last part that was judged again.
        engine, rule: which engine judged them, and its newest rule, in words.
    """

    threshold: float | None
    min_area: int | None
    parts: int
    before: dict[str, int]
    after: dict[str, int]
    flips: dict[str, int]
    left_out: int
    unknown: int
    first: str
    last: str
    engine: str
    rule: str

    @classmethod
    def of(cls, found: Replay, trial: Trial) -> Replayed:
        return cls(
            trial.threshold, trial.min_area, found.parts, found.before, found.after, found.flips, found.left_out, found.unknown,
            found.first, found.last, found.engine, found.rule,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """A threshold that was changed while the station ran.

    Attributes:
        change: counts them.
        run: which run of the station.
        time: ISO 8601, UTC; parts that began before are judged by the rule before.
        asked: who asked for it.
        engine: whose threshold it is.
        before, after: the rules, in words.
        bundle_before, bundle_after: SHA-256 of the bundle's manifest.
    """

    change: int
    run: int
    time: str
    asked: str
    engine: str
    before: str
    after: str
    bundle_before: str
    bundle_after: str


def pair(text: str) -> tuple[float, float] | str:
    """LOW:HIGH, or "none". Raises ValueError."""
    if text == "none":
        return text
    low, colon, high = text.partition(":")
    if not colon:
        raise ValueError("give LOW:HIGH, or none")
    return float(low), float(high)


def show_replay(found: Replay, trial: Trial, *, as_json: bool) -> None:
    """ "505 NG would have been 866", and what changed."""
    if as_json:
        print_json("records", Replayed.of(found, trial), action="replay", indent=None)
        return
    for line in replay_lines(found, trial):
        print(plain(line))


def replay_lines(found: Replay, trial: Trial) -> Iterator[str]:
    """For people."""
    wished = f"threshold {trial.threshold:g}" if trial.threshold is not None else f"minimal area {trial.min_area} px"
    yield f"{found.parts:,} parts of {found.first[:19]} to {found.last[:19]} UTC, judged by {found.engine}: {found.rule}"
    yield f"with {wished}:"
    for verdict in VERDICTS:
        before, after = found.before.get(verdict, 0), found.after.get(verdict, 0)
        if before or after:
            yield f"  {before:,} {verdict} would have been {after:,}"
    yield from flip_lines(found.flips)
    if found.left_out:
        yield f"  {found.left_out:,} parts were judged by another engine or another kind of rule, and are left out"
    if found.unknown:
        yield f"  of {found.unknown:,} parts it is not known: no level is recorded"


def flip_lines(flips: Mapping[str, int]) -> Iterator[str]:
    """ "  361 parts change from OK to NG"."""
    for flip, count in flips.items():
        old, _, new = flip.partition(">")
        yield f"  {count:,} part{'s' * (count != 1)} change{'s' * (count == 1)} from {old} to {new}"
    if not flips:
        yield "  no part changes"


def show_shadow(found: Shadowed, *, as_json: bool) -> None:
    """How the shadow would have judged."""
    if as_json:
        print_json("records", found, action="shadow", indent=None)
        return
    for line in shadow_lines(found):
        print(plain(line))


def shadow_lines(found: Shadowed) -> Iterator[str]:
    """For people."""
    yield f"{found.parts:,} parts of {found.first[:19]} to {found.last[:19]} UTC, judged also by {found.engine}: {found.rule}"
    for verdict in VERDICTS:
        line, shadow = found.line.get(verdict, 0), found.shadow.get(verdict, 0)
        if line or shadow:
            yield f"  {line:,} {verdict} would have been {shadow:,}"
    yield from flip_lines(found.flips)
    if found.latency_ms:
        yield "  it took " + ", ".join(f"{name} {value:.1f} ms" for name, value in found.latency_ms.items())
    if found.not_judged:
        yield f"  {found.not_judged:,} parts between them it did not judge: no time, no picture, or it was not there"
    if found.left_out:
        yield f"  {found.left_out:,} parts were judged by an earlier shadow, and are left out"


def show_changes(changes: list[dict[str, Any]], *, as_json: bool) -> None:
    """A line a change, the newest last."""
    for row in changes:
        if as_json:
            print_json("records", Change(**row), action="changes", indent=None)
        else:
            print(plain(f"{row['time'][:19]} UTC  {row['engine']}: {row['before']} -> {row['after']} (by {row['asked']})"))
    if not changes and not as_json:
        print("no threshold was changed while the station ran")
