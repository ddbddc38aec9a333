"""How would these parts have been judged with another threshold? Told from their records alone, exactly as if judged again.

A record holds its part's level and statistic (:mod:`edgead.runtime.records.basis`), so no picture is needed: NG is
``level >= threshold``. What does not hang on a threshold stays as it was told: parts that were late, lost or broken. Parts that
another engine or another kind of rule judged are left out, since their numbers mean something else, and so are those of which
no level is known (recorded by an older edgead, or by area while the line was faster than the reading); both are counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from edgead.decision import UNSURE
from edgead.errors import BadInput
from edgead.runtime.records.basis import HINGES, SETTLING
from edgead.runtime.records.history import History, Selection
from edgead.typed import FLOAT32_MAX

PAGE = 20_000  # rows read at once

NOTHING_KNOWN = "no part of these records says by which rule it was judged"

_View: TypeAlias = tuple[float, float] | None  # level and statistic
_TOLD_ANYWAY = ("late", "not_recorded", "stopped")  # how causes begin that no threshold would have changed


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried.

    Attributes:
        threshold: NG at and above: of scores, or of map pixels for a rule by area; None: each part's own.
        min_area: connected map pixels that are NG, for a rule by area at its own pixel threshold; None: each part's own.
        unknown_band: UNKNOWN from low to below high; ``"none"``: there is none; None: nobody said, so there must be none.
        engine: only parts that this engine judged; None: the one that judged the newest part.
    """

    threshold: float | None = None
    min_area: int | None = None
    unknown_band: tuple[float, float] | str | None = None
    engine: str | None = None

    def __post_init__(self) -> None:
        if (self.threshold is None) == (self.min_area is None):
            raise BadInput("a replay tries a threshold or a minimal area", hint="give one of the two")
        band = self.unknown_band if isinstance(self.unknown_band, tuple) else ()
        for value in (self.threshold, *band):
            if value is not None and not abs(value) <= FLOAT32_MAX:
                raise BadInput(f"a threshold of {value:g} decides nothing", hint="give a finite number in raw model units")
        if self.min_area is not None and (self.min_area < 1 or isinstance(self.unknown_band, tuple)):
            raise BadInput("a minimal area is 1 map pixel or more, and has no UNKNOWN band", hint="give --threshold with a band")
        if self.threshold is not None and isinstance(self.unknown_band, tuple):
            low, high = self.unknown_band
            if not (low < high and low <= self.threshold <= high):
                raise BadInput(
                    f"an UNKNOWN band from {low:g} to {high:g} does not hold the threshold {self.threshold:g}",
                    hint="give its lower and upper end, with the threshold in it",
                )


@dataclass(frozen=True, slots=True)
class Replay:
    """What would have been.

    Attributes:
        parts: judged again.
        before, after: how many of them were told, and would have been, with each verdict.
        flips: how many changed, by "from>to", e.g. "OK>NG".
        left_out: judged by another engine or kind of rule.
        unknown: of which no level is recorded.
        first, last: UTC of the first and last that were judged again; "" when none was.
        engine, rule: which engine judged them, and the newest rule, in words.
        changed: the records' `seq` -> verdict and cause that they would have, where the verdict is another.
    """

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
    changed: Mapping[int, tuple[str, str]] = field(repr=False)


def replay(history: History, selection: Selection, trial: Trial, told: Callable[[int], None] = lambda seq: None) -> Replay:
    """Judge the selected parts again.

    Args:
        told: the `seq` of each record that was read.

    Raises:
        BadInput: nothing of them says how it was judged, the trial does not fit their rule, or that has an UNKNOWN band and the
            trial does not say what becomes of it.
        StorageError: the records cannot be read.
    """
    rules = history.rules()
    newest = _newest(history, selection, trial, rules)
    _check(trial, rules[newest])
    kind = _kind(rules[newest], trial)
    judges = {number: _Judge(facts, trial) for number, facts in rules.items() if _kind(facts, trial) == kind}
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    flips: Counter[str] = Counter()
    changed: dict[int, tuple[str, str]] = {}
    left_out = unknown = 0
    first = last = ""
    settles = _Settles(rules[newest], trial)
    for seq, run, time, verdict, cause, score, threshold, level, statistic, levels, views, rule, wanted in _rows(
        history, selection, whole_runs=settles.needed
    ):
        told(seq)
        judge = judges.get(rule)
        found = None if judge is None else judge.again(verdict, cause, level, statistic, levels, views)
        if settles.needed:
            found = settles.told(run, verdict, cause, score, threshold, found)
        if not wanted:
            continue
        if found is None:
            left_out, unknown = left_out + (judge is None), unknown + (judge is not None)
            continue
        before[verdict] += 1
        after[found[0]] += 1
        first, last = first or time, time
        if found[0] != verdict:
            flips[f"{verdict}>{found[0]}"] += 1
            changed[seq] = found
    were, would, flipped = (dict(counts.most_common()) for counts in (before, after, flips))
    engine, rule = str(rules[newest]["engine"]), str(rules[newest]["says"])
    return Replay(sum(were.values()), were, would, flipped, left_out, unknown, first, last, engine, rule, changed)


def changed_rows(history: History, selection: Selection, found: Replay) -> Iterator[dict[str, Any]]:
    """The records that would have changed, each with `replayed` and `replayed_cause`. Raises StorageError."""
    for row in history.rows(selection):
        if (now := found.changed.get(row["seq"])) is not None:
            yield {**row, "replayed": now[0], "replayed_cause": now[1]}


class _Judge:
    """Judges parts of one rule again, by numbers."""

    def __init__(self, facts: Mapping[str, Any], trial: Trial) -> None:
        self._views, self._ng_views = int(facts["views"]), int(facts["ng_views"])
        self._place = 0 if trial.threshold is not None else 1
        if trial.threshold is None:
            assert trial.min_area is not None
            self._low = self._high = float(trial.min_area)
            return
        band = trial.unknown_band if isinstance(trial.unknown_band, tuple) else (trial.threshold, trial.threshold)
        by_area = facts["by"] == "area"  # maps are float32, and thresholds of their pixels become that, too
        self._low, self._high = (float(np.float32(value)) if by_area else value for value in band)

    def again(
        self, verdict: str, cause: str, level: float | None, statistic: float | None, levels: str | None, views: str | None
    ) -> tuple[str, str] | None:
        """Verdict and cause; None when it cannot be known."""
        if levels is not None and not cause.startswith(_TOLD_ANYWAY):
            return self._combined(json.loads(levels), views)
        if cause and cause not in HINGES:
            return verdict, cause
        value = level if self._place == 0 else statistic
        return None if value is None else self._of(value)

    def _of(self, value: float) -> tuple[str, str]:
        if value >= self._high:
            return "NG", ""
        return ("UNKNOWN", UNSURE) if value >= self._low else ("OK", "")

    def _combined(self, levels: Sequence[_View], views: str | None) -> tuple[str, str]:
        """As :class:`edgead.runtime.loop.combine.Combine` does."""
        told = json.loads(views or "[]") if None in levels else []  # only there a view has a cause of its own
        each = [
            self._of(view[self._place]) if view is not None else ("UNKNOWN", str(told[i]["cause"]))
            for i, view in enumerate(levels)
        ]
        ng, ok = (sum(verdict == wanted for verdict, _ in each) for wanted in ("NG", "OK"))
        if ng >= self._ng_views:
            return "NG", ""
        if ng + ok == self._views:
            return "OK", ""
        return "UNKNOWN", next((cause for verdict, cause in each if verdict == "UNKNOWN"), "view_missing")


class _Settles:
    """What a free-running station would have told, frame after frame: as :class:`edgead.runtime.loop.combine.Settle` does."""

    def __init__(self, facts: Mapping[str, Any], trial: Trial) -> None:
        self._frames, self._margin, self._threshold = int(facts["settle_frames"]), float(facts["hysteresis"]), trial.threshold
        self.needed = self._frames > 1 or self._margin > 0
        self._run, self._told, self._good = -1, "UNKNOWN", 0

    def told(
        self, run: int, verdict: str, cause: str, score: float | None, threshold: float | None, found: tuple[str, str] | None
    ) -> tuple[str, str] | None:
        """What is signalled for this frame; to be called with each one of a run, in order."""
        if run != self._run:
            self._run, self._told, self._good = run, "UNKNOWN", 0
        known = found is not None
        plain = found or (("OK", "") if cause == SETTLING else (verdict, cause))
        if plain[0] != "OK":
            self._told, self._good = plain[0], 0
            return found
        if self._told == "OK":
            return found
        level = self._threshold if known and self._threshold is not None else threshold
        sure = self._margin == 0 or (score is not None and level is not None and score < level - self._margin)
        self._good = self._good + 1 if sure else 0
        if self._good >= self._frames:
            self._told = "OK"
            return found
        return (self._told, SETTLING) if known else None


def _rows(history: History, selection: Selection, *, whole_runs: bool) -> Iterator[Sequence[Any]]:
    """seq, run, time, verdict, cause, score, threshold, level, statistic, levels, views, rule, wanted; the views only of parts of
    several. With `whole_runs` also what came before the selection in its first run, and between: not wanted."""
    columns = (
        "seq, run, time, verdict, cause, score, threshold, level, statistic, levels, "
        "CASE WHEN levels IS NULL THEN NULL ELSE views END, rule"
    )
    yield from history.raw(columns, selection, whole_runs=whole_runs, page=PAGE)


def _newest(history: History, selection: Selection, trial: Trial, rules: Mapping[int, Mapping[str, Any]]) -> int:
    """The rule of the newest selected part that says one."""
    fitting = [number for number, facts in rules.items() if trial.engine in (None, facts["engine"])]
    if trial.engine is not None and not fitting:
        known = ", ".join(sorted({str(facts["engine"]) for facts in rules.values()})) or "none that is known"
        raise BadInput(f"no part was judged by an engine {trial.engine!r}", hint=f"engines of these records: {known}")
    if (found := history.newest_rule(selection, fitting)) is None:
        raise BadInput(
            NOTHING_KNOWN,
            hint="they were recorded by an older edgead, or of several cameras (replay each camera's own records)",
        )
    return found


def _check(trial: Trial, facts: Mapping[str, Any]) -> None:
    """Does the trial fit the rule? Raises BadInput."""
    if trial.min_area is not None and facts["by"] != "area":
        raise BadInput("these parts are judged by score: an area decides nothing", hint="give --threshold")
    if facts["unknown_band"] is None:
        return
    low, high = facts["unknown_band"]
    if trial.min_area is not None:
        raise BadInput(
            f"these parts are judged with an UNKNOWN band ({low:g} to {high:g}): their areas are known at one threshold only",
            hint="give --threshold, with --unknown-band",
        )
    if trial.unknown_band is None:
        raise BadInput(
            f"these parts are judged with an UNKNOWN band ({low:g} to {high:g})",
            hint="say what becomes of it: --unknown-band LOW:HIGH, or --unknown-band none",
        )


def _kind(facts: Mapping[str, Any], trial: Trial) -> str:
    """What must be the same of two parts whose numbers are compared with one threshold."""
    area = facts["area"]
    if trial.min_area is not None and area is not None:
        area = {**area, "min_area_px": facts["threshold"]}
    same = (facts["model"], facts["engine"], facts["by"], area)
    return json.dumps((*same, *(facts[name] for name in ("views", "ng_views", "settle_frames", "hysteresis"))), sort_keys=True)
