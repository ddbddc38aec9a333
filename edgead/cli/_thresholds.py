"""What `edgead threshold` and `edgead inspect` tell about thresholds, in words and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgead.bundle import Bundle, EngineRecord, Threshold
from edgead.bundle import Chosen as Facts
from edgead.cli._console import console
from edgead.jobs.progress import LeftOut
from edgead.jobs.threshold import Chosen, Row, Written
from edgead.layout import listed
from edgead.thresholds.choose import FEW, Choice
from edgead.thresholds.conformal import CONFIDENCE, GoodChoice, images_needed, percent, upper_rate
from edgead.thresholds.operating import Counted, DefectChoice
from edgead.thresholds.pictures import Asked

TIGHTER = (0.01, 0.005, 0.001)
"""False-reject rates that users ask for; the table says how many pictures each needs."""

NAMED = 5
"""Pictures named of each kind; the others are counted."""


@dataclass(frozen=True, slots=True)
class OfEngine:
    """The threshold of one engine.

    Attributes:
        engine: its name in the bundle.
        threshold: the one in force; after a choice the new one, with --dry-run, too.
        before: the one that it takes the place of; null where nothing was chosen or taken back.
        history: earlier ones, the oldest first.
        rejected, missed: of the given good pictures those that are NG, of the given defects those that are OK; null without.
    """

    engine: str
    threshold: Threshold
    before: Threshold | None
    history: tuple[Threshold, ...]
    rejected: Counted | None = None
    missed: Counted | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of a bundle.

    Attributes:
        bundle: its folder.
        sha256: of it now.
        written: whether it was changed.
        engines: those that were asked for.
        good, defects: pictures that were looked at, each counted once.
        left_out: engines that do not open here; their thresholds stay.
        warnings: of thresholds that find no defect, or hardly any.
        applied: running stations were asked to take them now.
    """

    bundle: str
    sha256: str
    written: bool
    engines: tuple[OfEngine, ...]
    good: int = 0
    defects: int = 0
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()
    applied: bool = False

    @classmethod
    def of(cls, bundle: Bundle, records: Sequence[EngineRecord]) -> Thresholds:
        """As they are."""
        found = tuple(OfEngine(record.name, record.threshold, None, record.history) for record in records)
        return cls(str(bundle.path), bundle.digest, False, found)

    @classmethod
    def after(cls, written: Written) -> Thresholds:
        """With what was chosen or taken back."""
        bundle, chosen = written.bundle, written.chosen
        rows = {} if chosen is None else {row.record.name: row.choice for row in chosen.rows}
        found = []
        for before, after in written.pairs:
            choice = rows.get(after.name)
            rejected = choice.rejected if choice is not None and choice.rejected.n else None
            missed = choice.missed if choice is not None and choice.missed.n else None
            found.append(OfEngine(after.name, after.threshold, before.threshold, after.history, rejected, missed))
        counts = (0, 0, ()) if chosen is None else (chosen.good.count, chosen.defects.count, chosen.left_out)
        return cls(str(bundle.path), bundle.digest, not written.dry_run, tuple(found), *counts, written.warnings())


def show(chosen: Chosen) -> None:
    """The new thresholds beside the old ones; the share of good parts that is NG at most, on average ("promise") and with 95 %
    confidence; and how many of the given pictures are NG, UNKNOWN, or defects that are OK ("missed")."""
    from rich import box
    from rich.table import Column, Table

    rows, good, defects, map_shape = chosen.rows, chosen.good, chosen.defects, chosen.map_shape
    pictures, band = bool(good.count or defects.count), any(row.threshold.unknown_band for row in rows)
    names = ["was", "NG at"]
    names += ["promise", f"{percent(CONFIDENCE)} sure"] * pictures
    names += (["good NG"] + ["unsure"] * band) * bool(good.count) + ["missed"] * bool(defects.count)
    columns = (Column(name, justify="right") for name in names)
    table = Table(Column("engine", no_wrap=True), *columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        choice = row.choice
        before, after = row.record.threshold, row.threshold
        cells = [f"{before.rule.level:.5g}" if before.by == after.by else "-", f"{after.rule.level:.5g}"]
        cells += _promises(choice) * pictures
        cells += ([_counts(choice.rejected)] + [str(choice.unsure)] * band) * bool(good.count)
        cells += [_counts(choice.missed)] * bool(defects.count)
        table.add_row(row.record.name, *cells)
    console().print(table)
    lines = (*_rules(rows, map_shape), *_pictures(good, defects), *_explained(rows, good), *_named(rows), *_warnings(rows, good))
    for line in lines:
        console().print(line, markup=False)


def show_history(records: Sequence[EngineRecord], all_of_them: bool) -> None:
    """The thresholds in force and, when wished, all earlier ones, oldest first."""
    for record in records:
        console().print(record.name, style="bold", markup=False)
        earlier = record.history if all_of_them else ()
        for threshold in earlier:
            console().print(f"  {_dated(threshold)}", markup=False)
        console().print(f"  {_dated(record.threshold)}, in force", markup=False)
        if record.history and not all_of_them:
            console().print(f"  {len(record.history)} earlier ones: --history shows them")


def facts(threshold: Threshold) -> str:
    """One line: what decides, how it was chosen, what is promised."""
    chosen = threshold.chosen
    promise = _promise(chosen) if chosen is not None else ""
    return f"{threshold.rule.describe()} ({threshold.method})" + (f"; {promise}" if promise else "")


def _dated(threshold: Threshold) -> str:
    chosen = threshold.chosen
    when = f"{chosen.at}, {chosen.tool}: " if chosen is not None else "at export: "
    undone = f", taken back {threshold.undone_at}" if threshold.undone_at else ""
    return f"{when}{facts(threshold)}{undone}"


def _promise(chosen: Facts) -> str:
    words = []
    if chosen.expected_false_reject is not None:
        words.append(f"good parts NG: {percent(chosen.expected_false_reject)} expected, no guarantee ({chosen.crossfit})")
    if chosen.false_reject_rate is not None and chosen.false_reject_bound is not None:
        rates = f"at most {percent(chosen.false_reject_rate)} on average, {percent(chosen.false_reject_bound)}"
        words.append(f"good parts NG: {rates} with {percent(chosen.confidence)} confidence")
    if chosen.miss_rate is not None and chosen.miss_bound is not None:
        rates = f"at most {percent(chosen.miss_rate)} on average, {percent(chosen.miss_bound)}"
        words.append(f"defects missed: {rates} with {percent(chosen.confidence)} confidence")
    return "; ".join(words)


def _promises(choice: Choice) -> list[str]:
    """At most so many good parts are NG: on average, and with confidence."""
    if choice.good is not None:
        return [percent(choice.good.rate), percent(choice.good.bound)]
    if choice.cost is not None or not choice.rejected.n:
        return ["none", ""]
    return ["none", percent(upper_rate(choice.rejected.events, choice.rejected.n))]  # they did not choose the threshold


def _counts(counted: Counted) -> str:
    return f"{counted.events}/{counted.n}"


def _rules(rows: Sequence[Row], map_shape: tuple[int, int]) -> list[str]:
    """What decides, where that is more than a score."""
    height, width = map_shape
    lines = []
    for row in rows:
        pixel = row.threshold.pixel
        if pixel is None and row.threshold.unknown_band is None:
            continue
        line = f"{row.record.name}: {row.threshold.rule.describe()}"
        if pixel is not None:
            share, seen = pixel.min_area_px / (height * width), pixel.inspected(map_shape)
            line += f"; {percent(share)} of the map of {width} x {height}, of which {percent(seen)} are looked at"
        lines.append(line)
    return lines


def _pictures(good: Asked, defects: Asked) -> list[str]:
    parts = []
    for asked, kind in ((good, "good pictures"), (defects, "defects")):
        if asked.count:
            copies = f" ({asked.copies} copies of others counted once)" if asked.copies else ""
            parts.append(f"{asked.count} {kind}{copies}")
    lines = [", ".join(parts)] if parts else []
    for asked in (good, defects):
        if asked.known:
            told = f"{len(asked.known)} more are left out: the model was trained on them, so they say nothing about new parts"
            lines.append(f"{told} ({listed(str(file) for file in asked.known[:1])}{', ...' if len(asked.known) > 1 else ''})")
    for asked in (good, defects):
        lines += asked.survey.lines() if asked.count else []
    return lines


def _explained(rows: Sequence[Row], good: Asked) -> list[str]:
    """The promises in words, and what is only counted."""
    if not rows:
        return []
    first, lines = rows[0].choice, []  # all engines were asked about the same pictures
    if first.good is not None:
        lines += _about_good(first.good, good.count)
        if first.band is not None:
            lines.append("the promise is about NG; UNKNOWN parts are rejected too")
    if first.defects is not None:
        lines.append(_about_defects(first.defects))
    elif first.missed.n:
        lines += [f"{row.record.name}: {_interval('defects missed', row.choice.missed)}" for row in rows]
    for row in rows:
        if (cost := row.choice.cost) is not None:
            lines.append(f"{row.record.name}: {cost.method}: {cost.cost:.3g} false rejects a part")
            lines.append(f"  other pictures like these would have given {cost.low:.5g} to {cost.high:.5g}")
            lines.append(f"  on the pictures that chose it, so hopeful: {_interval('good parts NG', row.choice.rejected)}")
    return lines


def _about_good(choice: GoodChoice, count: int) -> list[str]:
    if not choice.guaranteed:
        return [
            f"no guarantee for {percent(choice.asked)}: {choice.more_needed} more good pictures are needed, these promise "
            f"{percent(choice.rate)}; the threshold is an extrapolation, a start"
        ]
    lines = [
        "guarantee: of good parts like these pictures (same product, light and camera; none used for training) at most "
        f"{percent(choice.asked)} are NG, on average over such sets of pictures"
    ]
    rates = [rate for rate in TIGHTER if rate < choice.asked and images_needed(rate) > count]
    if rates:
        needs = ", ".join(f"{percent(rate)} needs {images_needed(rate) - count} more good pictures" for rate in rates)
        lines.append(f"tighter: {needs}")
    return lines


def _about_defects(choice: DefectChoice) -> str:
    sure = f"with {percent(CONFIDENCE)} confidence"
    if choice.guaranteed:
        return (
            f"defects like the given ones: at most {percent(choice.rate)} are missed on average, {sure} at most "
            f"{percent(choice.bound)}; of other kinds nobody knows"
        )
    return (
        f"no guarantee for {percent(choice.asked)} misses: {choice.more_needed} more defects are needed, these promise "
        f"{percent(choice.rate)}, {sure} {percent(choice.bound)}"
    )


def _interval(what: str, counted: Counted) -> str:
    interval = f"{percent(CONFIDENCE)} interval {percent(counted.low)} to {percent(counted.high)}"
    return f"{what} {counted.events} of {counted.n}, {interval}"


def _named(rows: Sequence[Row]) -> list[str]:
    """The pictures that set the threshold, those that are NG, and the defects that are OK; told once where engines agree."""
    told: dict[str, list[str]] = {}
    for row in rows:
        for what, names in (
            ("good pictures that set the threshold", row.named.setting),
            ("good pictures that are NG", row.named.rejected),
            ("defects that are OK", row.named.missed),
        ):
            if names:
                told.setdefault(f"{what}: {listed(names, NAMED)}", []).append(row.record.name)
    return [f"{', '.join(engines)}: {line}" for line, engines in told.items()]


def _warnings(rows: Sequence[Row], good: Asked) -> list[str]:
    lines = []
    if 0 < good.count < FEW:
        lines.append(f"rough: from {good.count} good pictures; take {FEW} or more")
    for row in rows:
        if (before := row.rejected_before) is not None and before > max(1, 0.2 * good.count):
            odd = f"{row.record.name}: {before} of these {good.count} are NG by the threshold before"
            lines.append(f"{odd}: are they good, of this product and in its light?")
    return lines
