"""What a verdict rests on: bundle, rule and how views are combined; and what is noted of a part to try others later.

Of each part two numbers are kept. Its *statistic* is what the rule compares: by score the score, by area the pixels of the
largest hot piece. Its *level* is the largest threshold at which it would be NG: by score the score again, by area a pixel value
(:meth:`edgead.decision.PixelRule.statistic`). ``level >= threshold`` is the verdict at any threshold, ``statistic >= area`` that
at any minimal area, so :mod:`edgead.runtime.records.replay` needs no picture.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgead.decision import UNSURE, Rule
from edgead.types import AnomalyMap, Basis, Inspection

ALWAYS = sys.float_info.max
"""The level of a part that regions with thresholds of their own make NG; one that nothing makes NG has the negative of it."""


SETTLING = "settling"
"""Cause of what a free-running station tells until it is sure."""

HINGES = ("", UNSURE, SETTLING)
"""Causes of verdicts that another threshold may change."""


@dataclass(frozen=True, slots=True)
class Judged:
    """By what a station judges between two changes.

    Attributes:
        rule: it.
        engine: its name, for records.
        bundle: SHA-256 of the bundle's manifest; "" when there is none.
        model: SHA-256 of the engine's own file: only numbers of one model can be compared.
        views, ng_views: frames for each part, and how many of them make it NG.
        settle_frames, hysteresis: of a free-running station.
        facts: all that, as plain values.
    """

    rule: Rule
    engine: str = ""
    bundle: str = ""
    model: str = ""
    views: int = 1
    ng_views: int = 1
    settle_frames: int = 1
    hysteresis: float = 0.0
    facts: Mapping[str, Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        rule, pixel = self.rule, self.rule.pixel
        area = None if pixel is None else {
            "min_area_px": pixel.min_area_px,
            "regions": [dataclasses.asdict(region) for region in pixel.regions],
            "grid": pixel.grid,
        }  # fmt: skip
        way = {
            "by": rule.by,
            "threshold": rule.level,
            "unknown_band": rule.unknown_band,
            "area": area,
            "views": self.views,
            "ng_views": self.ng_views,
            "settle_frames": self.settle_frames,
            "hysteresis": self.hysteresis,
        }
        version = hashlib.sha256(json.dumps(way, sort_keys=True).encode()).hexdigest()[:12]
        told = {"version": version, "engine": self.engine, "bundle": self.bundle, "model": self.model, **way}
        object.__setattr__(self, "facts", {**told, "says": rule.describe()})

    @property
    def needs_map(self) -> bool:
        """By area a reading takes milliseconds."""
        return self.rule.pixel is not None

    def reading(self, score: float, anomaly_map: AnomalyMap | None) -> tuple[float, float] | None:
        """Level and statistic of one picture; None when it was not answered, or not by finite numbers."""
        if not math.isfinite(score):
            return None
        pixel = self.rule.pixel
        if pixel is None:
            return score, score
        if anomaly_map is None or not bool(np.isfinite(anomaly_map).all()):
            return None
        return min(ALWAYS, max(-ALWAYS, pixel.statistic(anomaly_map))), float(pixel.largest_area(anomaly_map))


@dataclass(frozen=True, slots=True)
class Reading:
    """What is noted of a part.

    Attributes:
        level, statistic: of the view that decides: of k NG views that make it NG, the k-th largest.
        views: level and statistic of each view, None for one that was not answered; empty for a part of one frame.
    """

    level: float | None
    statistic: float | None
    views: tuple[tuple[float, float] | None, ...] = ()

    @property
    def columns(self) -> dict[str, Any]:
        """As they stand in the table of records."""
        return {"statistic": self.statistic, "level": self.level, "levels": levels_text(self.views)}


def read(inspection: Inspection) -> Reading:
    """What is to be noted; nothing (None) of a part of which no threshold would change the verdict (late, lost, broken), or of
    which nobody knows by what it was judged."""
    basis = inspection.basis
    if basis is None:
        return Reading(None, None)
    if not inspection.views:
        return Reading(*(_reading(inspection, basis) or (None, None)))
    causes = {view.cause for view in inspection.views}
    foreign = any(view.basis != basis for view in inspection.views if view.cause in HINGES)
    if foreign or inspection.cause not in (*HINGES, *causes):
        return Reading(None, None)  # some are the fallback's, whose numbers cannot be compared; or the part was late as a whole
    return combined(tuple(_reading(view, basis) for view in inspection.views), basis.facts["ng_views"])


def combined(views: tuple[tuple[float, float] | None, ...], ng_views: int) -> Reading:
    """Of a part of several frames, `ng_views` of which make it NG; None is a frame that was not answered."""
    level, statistic = (_largest([view[i] for view in views if view], ng_views) for i in (0, 1))
    return Reading(level, statistic, views)


def _reading(inspection: Inspection, basis: Basis) -> tuple[float, float] | None:
    return basis.reading(inspection.score, inspection.anomaly_map) if inspection.cause in HINGES else None


def levels_text(views: Sequence[Sequence[float] | None]) -> str | None:
    """The column `levels`: JSON, NULL for parts of one frame."""
    return json.dumps(views, separators=(",", ":")) if views else None


def _largest(values: Sequence[float], place: int) -> float | None:
    return sorted(values, reverse=True)[place - 1] if len(values) >= place else None


class Reader:
    """Reads parts that are judged by area, on the thread of a callback: it takes longer than a verdict may wait.

    Args:
        note: told part id and columns.
    """

    def __init__(self, note: Callable[[int, Mapping[str, Any]], None]) -> None:
        self._note = note

    def see(self, inspection: Inspection) -> None:
        """For :meth:`edgead.runtime.loop.station.Station.on_inspection`."""
        if inspection.basis is not None and inspection.basis.needs_map:
            found = read(inspection)
            if found.level is not None or found.views:
                self._note(inspection.part_id, found.columns)
