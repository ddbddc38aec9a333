"""The ONE place where a score and a map become a verdict.

A rule decides *by score* (NG at and above a threshold) or *by area*: NG when the pixels of the anomaly map that are at or above
a pixel threshold form a connected piece (8 neighbours) of at least so many map pixels. Regions say where to look.

Whatever decides, each picture has one *statistic*: the largest threshold at which it would be NG. By score that is the score;
by area it is found exactly by bisection. NG is ``statistic >= threshold``, so thresholds are chosen from statistics in the same
way for both (:mod:`edgead.thresholds.conformal`), and what they promise holds for the verdict on the whole picture.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.typed import FLOAT32_MAX, Count, Side
from edgead.types import AnomalyMap, Verdict

BY = ("score", "area")
UNSURE = "unsure"
"""Cause of UNKNOWN inside the band."""

_SLACK = 1e-5
"""Share by which rounding may lift an enlarged map above the values that it comes from, with room to spare."""

MOST_CORNERS = 1000
"""Of all regions of a rule together."""

BoolMap = npt.NDArray[np.bool_]


def tells_no_map(map_shape: Sequence[int]) -> bool:
    """Is a map of height, width `map_shape` none: one cell, which holds the score?"""
    return tuple(map_shape) == (1, 1)


def enlarged(anomaly_map: AnomalyMap, shape: Sequence[int]) -> AnomalyMap:
    """A map of h x w at height, width `shape`: bilinear at half-pixel centres, as the graphs themselves enlarge theirs. Shares
    memory with the given one only when it has that size already."""
    if anomaly_map.shape == tuple(shape):
        return anomaly_map
    return np.asarray(cv2.resize(anomaly_map, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the picture that is looked at, or not.

    A map pixel belongs to it when its centre lies inside. The order of regions does not matter: without any plain `include`
    region the whole picture is looked at, otherwise these only; a region with its own threshold is looked at with that one (of
    several the lowest), wherever it lies, and restricts nothing; what an `exclude` region covers is not looked at, whatever the
    others say.

    Attributes:
        points: corners x, y of a polygon (at least 3), each from 0 to 1 of the width and height of the inspected picture, that is
            of what the recipe cuts out of the camera's picture; inside is what an odd number of its edges surrounds.
        include: False excludes.
        threshold: pixel threshold of its own, raw model units; None takes the rule's.
    """

    points: tuple[tuple[float, float], ...]
    include: bool = True
    threshold: float | None = None

    def __post_init__(self) -> None:
        shown = " ".join(f"{x:g},{y:g}" for x, y in self.points)
        if len(self.points) < 3 or not all(0.0 <= v <= 1.0 for point in self.points for v in point):
            raise BadInput(
                f"region {shown!r} is not at least 3 corners from 0 to 1",
                hint="give x,y,width,height or x,y of each corner, as parts of the inspected picture's width and height",
            )
        if self.threshold is not None:
            if not self.include:
                raise BadInput(f"region {shown!r} is excluded: a threshold of its own means nothing there")
            _check_level("a region's own threshold", self.threshold)

    @classmethod
    def rectangle(
        cls, x: float, y: float, width: float, height: float, include: bool = True, threshold: float | None = None
    ) -> Region:
        """From its upper left corner and size, all from 0 to 1.

        Raises:
            BadInput: it has no area or reaches out of the picture.
        """
        if not (width > 0 and height > 0 and x + width <= 1 + 1e-9 and y + height <= 1 + 1e-9):
            raise BadInput(
                f"rectangle {x:g},{y:g},{width:g},{height:g} does not lie in the picture",
                hint="give x,y,width,height as parts of the inspected picture's width and height, e.g. 0.1,0.1,0.8,0.5",
            )
        right, low = min(1.0, x + width), min(1.0, y + height)
        return cls(((x, y), (right, y), (right, low), (x, low)), include, threshold)


@dataclass(frozen=True, slots=True)
class PixelRule:
    """When do pixels of the anomaly map make a part NG?

    Attributes:
        threshold: pixels at or above are hot, raw model units.
        min_area_px: so many connected hot pixels are NG; counted in pixels of the MAP, which is often smaller than the picture.
        regions: where to look; empty is everywhere.
        grid: height, width at which the map is looked at: a smaller one, of an engine that tells its map at the network's own
            resolution, is enlarged first, so that areas mean the same. None takes the map as it comes.
    """

    threshold: float
    min_area_px: Count = 1
    regions: tuple[Region, ...] = ()
    grid: tuple[Side, Side] | None = None

    def __post_init__(self) -> None:
        _check_level("a pixel threshold", self.threshold)
        if sum(len(region.points) for region in self.regions) > MOST_CORNERS:
            raise BadInput(f"the regions have more than {MOST_CORNERS} corners in all", hint="draw simpler ones")
        if not isinstance(self.min_area_px, int) or isinstance(self.min_area_px, bool) or self.min_area_px < 1:
            raise BadInput(f"a minimal area of {self.min_area_px!r} map pixels is not usable", hint="give a whole number above 0")

    def grid_of(self, map_shape: Sequence[int]) -> tuple[int, int]:
        """Height, width at which maps of that height, width are looked at."""
        height, width = map_shape
        larger = self.grid is not None and height <= self.grid[0] and width <= self.grid[1]
        return self.grid if larger and self.grid is not None else (height, width)

    def looked_at(self, anomaly_map: AnomalyMap) -> AnomalyMap:
        """The map on the rule's grid: enlarged when it is smaller."""
        return enlarged(anomaly_map, self.grid_of(anomaly_map.shape))

    def largest_area(self, anomaly_map: AnomalyMap, threshold: float | None = None) -> int:
        """Map pixels of the largest connected hot piece; `threshold` in the place of the rule's own."""
        hot = self._hot(self.looked_at(anomaly_map), self.threshold if threshold is None else threshold)
        return _largest_piece(hot) if hot.any() else 0

    def reached(self, anomaly_map: AnomalyMap, threshold: float | None = None) -> bool:
        """Whether a connected hot piece has the minimal area."""
        level = self.threshold if threshold is None else threshold
        if self._is_calm(anomaly_map, level):
            return False
        hot = self._hot(self.looked_at(anomaly_map), level)
        count = np.count_nonzero(hot)
        return bool(count >= self.min_area_px and (self.min_area_px == 1 or _largest_piece(hot) >= self.min_area_px))

    def statistic(self, anomaly_map: AnomalyMap) -> float:
        """The largest pixel threshold at which this map is NG, exactly: always one of its values.

        Regions with a threshold of their own keep it: +inf when they alone make the map NG. -inf when nothing ever does.
        """
        anomaly_map = self.looked_at(anomaly_map)
        if self.reached(anomaly_map, math.inf):
            return math.inf
        plain = anomaly_map if not self.regions else anomaly_map[_mask(self.regions, *anomaly_map.shape)[0]]
        values = np.unique(plain)
        first, last = 0, len(values)  # the map is NG at values[:first] and not at values[last:]
        while first < last:
            middle = (first + last) // 2
            if self.reached(anomaly_map, float(values[middle])):
                first = middle + 1
            else:
                last = middle
        return float(values[first - 1]) if first else -math.inf

    def inspected(self, shape: Sequence[int]) -> float:
        """The share of a map of height, width `shape` that is looked at, 0 to 1."""
        plain, own = _mask(self.regions, *shape)
        return float((plain | np.isfinite(own)).mean())

    def _is_calm(self, anomaly_map: AnomalyMap, threshold: float) -> bool:
        """Can no pixel be hot? Told from the map as it comes, since enlarging raises no value: a good part costs none."""
        lowest = min([threshold, *(region.threshold for region in self.regions if region.threshold is not None)])
        highest = float(anomaly_map.max())
        return highest + _SLACK * abs(highest) < lowest

    def _hot(self, anomaly_map: AnomalyMap, threshold: float) -> BoolMap:
        level = np.float32(threshold)
        if not self.regions:
            return np.asarray(anomaly_map >= level)
        plain, own = _mask(self.regions, *anomaly_map.shape)
        return np.asarray((plain & (anomaly_map >= level)) | (anomaly_map >= own))


@dataclass(frozen=True, slots=True)
class Rule:
    """How a part is judged.

    Attributes:
        threshold: scores at or above are NG when `by` is ``"score"``, raw model units; by area it decides nothing.
        unknown_band: (low, high) around the threshold that decides: from low to below high is UNKNOWN("unsure"), at or above high
            NG, below low OK. By area both are pixel thresholds. None: there is no band.
        pixel: what decides by area; None by score.
        by: ``"score"`` or ``"area"``.

    Raises:
        BadInput: a number is not finite, the band does not hold the threshold, or `pixel` and `by` contradict each other.
    """

    threshold: float
    unknown_band: tuple[float, float] | None = None
    pixel: PixelRule | None = None
    by: str = "score"

    def __post_init__(self) -> None:
        _check_level("a threshold", self.threshold)
        if self.by not in BY:
            raise BadInput(f"a rule by {self.by!r} is not known", hint=f"choose {' or '.join(BY)}")
        if (self.by == "area") != (self.pixel is not None):
            raise BadInput(
                "a rule by area needs a pixel rule, and a rule by score takes none (regions and areas do not touch the score)",
                hint="give a pixel threshold with by area, or decide by score without regions",
            )
        if self.unknown_band is not None:
            low, high = self.unknown_band
            if not (math.isfinite(low) and math.isfinite(high) and low < high and low <= self.level <= high):
                raise BadInput(
                    f"an UNKNOWN band from {low:g} to {high:g} does not hold the threshold {self.level:g}",
                    hint="give its lower and upper end, with the threshold in it, or no band",
                )

    @classmethod
    def of(cls, rule: Rule | float) -> Rule:
        """A number is a rule by score."""
        return rule if isinstance(rule, Rule) else cls(float(rule))

    @property
    def level(self) -> float:
        """The threshold that decides, of scores or of map pixels, raw model units."""
        return self.threshold if self.pixel is None else self.pixel.threshold

    def with_level(self, value: float, band: tuple[float, float] | None = None) -> Rule:
        """The same rule with another threshold that decides, and this band."""
        if self.pixel is None:
            return Rule(value, band)
        return dataclasses.replace(self, pixel=dataclasses.replace(self.pixel, threshold=value), unknown_band=band)

    def decide(self, score: float, anomaly_map: AnomalyMap | None) -> tuple[Verdict, str]:
        """Verdict and cause.

        Args:
            score: raw model units.
            anomaly_map: h x w float32 raw model units, or None.

        Returns:
            OK or NG with ""; UNKNOWN with "score_not_finite", "map_not_finite", "no_map" (by area) or "unsure" (in the band).
        """
        if not math.isfinite(score):
            return Verdict.UNKNOWN, "score_not_finite"
        if anomaly_map is not None and not bool(np.isfinite(anomaly_map).all()):
            return Verdict.UNKNOWN, "map_not_finite"  # a maximum over a map with NaN may be finite, and means nothing
        if self.pixel is not None and anomaly_map is None:
            return Verdict.UNKNOWN, "no_map"
        low, high = self.unknown_band or (self.level, self.level)
        if self._is_ng(score, anomaly_map, high):
            return Verdict.NG, ""
        if low < high and self._is_ng(score, anomaly_map, low):
            return Verdict.UNKNOWN, UNSURE
        return Verdict.OK, ""

    def statistic(self, score: float, anomaly_map: AnomalyMap) -> float:
        """The largest threshold at which this picture is NG (see the module's docstring)."""
        return float(score) if self.pixel is None else self.pixel.statistic(anomaly_map)

    def check(self, map_shape: Sequence[int]) -> None:
        """Refuse a rule that could never say NG on maps of height, width `map_shape`.

        Raises:
            BadInput: the regions hold no connected piece of the minimal area, or there is no map.
        """
        if self.pixel is None:
            return
        if tells_no_map(map_shape):
            raise BadInput(
                "a rule by area needs an anomaly map, and this engine tells only a score",
                hint="decide by score, or export without the rewrite score_only",
            )
        map_shape = self.pixel.grid_of(map_shape)
        plain, own = _mask(self.pixel.regions, *map_shape)
        room = _largest_piece(plain | np.isfinite(own))
        if room < self.pixel.min_area_px:
            height, width = map_shape
            raise BadInput(
                f"no part would ever be NG: the minimal area is {self.pixel.min_area_px} map pixels, and the regions let at most "
                f"{room} connected ones of {width} x {height} be looked at",
                hint="take a smaller minimal area, or larger regions",
            )

    def describe(self) -> str:
        """In words, e.g. ``"NG at score 2.5 and above, UNKNOWN from 2.1"``."""
        high = self.level if self.unknown_band is None else self.unknown_band[1]
        text = f"NG at score {high:.6g} and above"
        if self.pixel is not None:
            area = self.pixel.min_area_px
            pieces = "one map pixel reaches" if area == 1 else f"{area} connected map pixels reach"
            count = len(self.pixel.regions)
            where = f" ({count} region{'s' * (count > 1)})" if count else ""
            text = f"NG when {pieces} {high:.6g}{where}"
        return text if self.unknown_band is None else f"{text}, UNKNOWN from {self.unknown_band[0]:.6g}"

    def _is_ng(self, score: float, anomaly_map: AnomalyMap | None, level: float) -> bool:
        if self.pixel is None:
            return score >= level
        return anomaly_map is not None and self.pixel.reached(anomaly_map, level)


def _check_level(what: str, value: float) -> None:
    if not abs(value) <= FLOAT32_MAX:
        raise BadInput(f"{what} of {value} decides nothing", hint="give a finite number in raw model units")


def _largest_piece(hot: BoolMap) -> int:
    """Pixels of the largest piece of True, 8 neighbours each."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(hot.view(np.uint8), connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max()) if count > 1 else 0


@lru_cache(maxsize=64)
def _mask(regions: tuple[Region, ...], height: int, width: int) -> tuple[BoolMap, npt.NDArray[np.float32]]:
    """Where the rule's threshold counts (bool, height x width), and the regions' own thresholds (float32; inf where there is
    none)."""
    plain = np.zeros((height, width), np.bool_)
    own = np.full((height, width), np.inf, np.float32)
    excluded = np.zeros((height, width), np.bool_)
    for region in regions:
        inside = _inside(region.points, height, width)
        if not region.include:
            excluded |= inside
        elif region.threshold is None:
            plain |= inside
        else:
            own[inside] = np.minimum(own[inside], np.float32(region.threshold))
    if not any(region.include and region.threshold is None for region in regions):
        plain[:] = True
    plain &= ~excluded & ~np.isfinite(own)
    own[excluded] = np.inf
    return plain, own


def _inside(points: Sequence[tuple[float, float]], height: int, width: int) -> BoolMap:
    """Which pixel centres lie in the polygon: those with an odd number of its edges to their right. Neighbouring rectangles share
    no pixel and leave none out."""
    x = (np.arange(width) + 0.5)[None, :] / width
    y = (np.arange(height) + 0.5)[:, None] / height
    inside = np.zeros((height, width), np.bool_)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
    return inside
