"""What is asked of a bundle's thresholds, engine by engine: the request and the present threshold -> what to choose, and how."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import EngineRecord, Threshold
from edgead.decision import PixelRule, Region, Rule
from edgead.errors import BadInput, BundleError
from edgead.thresholds.choose import Choice, Wish, next_float32, next_whole
from edgead.thresholds.pictures import Statistic
from edgead.thresholds.written import Band, band


@dataclass(frozen=True, slots=True)
class ThresholdRequest:
    """What to choose. What is None stays as it is: by score or by area, regions, minimal area, rates.

    Attributes:
        bundle: its folder.
        engine: one of its engines; None: all that open here.
        good, defects: folders of camera pictures, those below them included.
        max_false_reject, max_miss: shares of good parts that may be NG, and of defects that may be OK.
        cost_ratio: a miss costs so many false rejects: the cheapest threshold.
        defect_rate: share of defective parts on the line, for `cost_ratio`; None: as given.
        value: this threshold, by hand (of pixels when by area).
        unknown_band: UNKNOWN instead of OK from where good parts reach this larger rate, or from low to high, or ``"rates"``:
            between `max_miss` and `max_false_reject`; ``"none"``: nowhere.
        by: ``"score"`` or ``"area"`` decides.
        pixel_threshold: this one; with pictures the minimal area is chosen instead.
        min_area: connected map pixels that are NG, or a share of the map.
        regions: where to look; empty: everywhere.
        dry_run: change nothing.
        threads: CPU threads of one inference.
    """

    bundle: Path
    engine: str | None = None
    good: tuple[Path, ...] = ()
    defects: tuple[Path, ...] = ()
    max_false_reject: float | None = None
    max_miss: float | None = None
    cost_ratio: float | None = None
    defect_rate: float | None = None
    value: float | None = None
    unknown_band: Band | None = None
    by: str | None = None
    pixel_threshold: float | None = None
    min_area: int | float | None = None
    regions: tuple[Region, ...] | None = None
    dry_run: bool = False
    threads: int | None = None

    @property
    def asks(self) -> bool:
        """Is anything to be chosen?"""
        wished = (self.max_false_reject, self.max_miss, self.cost_ratio, self.defect_rate, self.value, self.unknown_band, self.by,
                  self.pixel_threshold, self.min_area, self.regions)  # fmt: skip
        return bool(self.good or self.defects) or any(one is not None for one in wished)

    @property
    def pixels(self) -> bool:
        """Is anything asked for that only areas know?"""
        return any(value is not None for value in (self.pixel_threshold, self.min_area, self.regions))

    def __post_init__(self) -> None:
        """Refuse what contradicts itself before anything is opened."""
        wishes = {
            "--max-false-reject": self.max_false_reject, "--max-miss": self.max_miss, "--cost-ratio": self.cost_ratio,
            "--set": self.value,
        }  # fmt: skip
        given = [flag for flag, value in wishes.items() if value is not None]
        alone = [flag for flag in ("--cost-ratio", "--set") if flag in given]
        if alone and len(given) > 1:
            raise BadInput(f"{alone[0]} does not go together with {next(flag for flag in given if flag != alone[0])}")
        if self.value is not None and self.pixel_threshold is not None:
            raise BadInput("--set and --pixel-threshold are two thresholds", hint="with --by area, --set is the pixel threshold")
        if self.by not in (None, "score", "area"):
            raise BadInput(f"nothing decides by {self.by!r}", hint="score or area")
        if self.by == "score" and self.pixels:
            raise BadInput("pixel thresholds, areas and regions decide nothing by score", hint="leave out --by score")
        for name, share in (("false rejects", self.max_false_reject), ("misses", self.max_miss), ("defects", self.defect_rate)):
            if share is not None and not 0.0 < share < 1.0:
                raise BadInput(f"a rate of {share:g} {name} is not usable", hint="give a share above 0 and below 1, such as 0.01")
        self._check_pictures()

    def _check_pictures(self) -> None:
        """Refuse rates without the pictures that they need."""
        if self.max_false_reject is not None and not self.good:
            raise BadInput("--max-false-reject needs good pictures", hint="give --good DIR")
        if self.max_miss is not None and not self.defects:
            raise BadInput("--max-miss needs pictures of defects", hint="give --defects DIR")
        if self.cost_ratio is not None and not (self.good and self.defects):
            raise BadInput("--cost-ratio needs good pictures and defects", hint="give --good DIR and --defects DIR")
        if self.defect_rate is not None and self.cost_ratio is None:
            raise BadInput("--defect-rate says nothing without --cost-ratio", hint="give both, or leave it out")
        if self.defects and not self.good and self.max_miss is None and self.value is None:
            raise BadInput("--defects alone choose no threshold", hint="give --good DIR too, or --max-miss RATE")
        if isinstance(self.unknown_band, float) and not self.good:
            raise BadInput("an UNKNOWN band from a rate needs good pictures", hint="give --good DIR, or the band as LOW:HIGH")
        if self.unknown_band == "rates" and (self.max_miss is None or self.max_false_reject is None):
            raise BadInput("--unknown-band rates lies between two rates", hint="give --max-miss and --max-false-reject")


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be chosen for one engine.

    Attributes:
        record: the engine.
        statistic: from an answer to the number that is compared.
        wish: what is asked for.
        finish: from the choice to the new threshold, but for its method and facts.
        above: the smallest usable threshold above a statistic.
    """

    record: EngineRecord
    statistic: Statistic
    wish: Wish
    finish: Callable[[Choice], Threshold]
    above: Callable[[float], float] = next_float32

    def comparable(self, found: Threshold) -> bool:
        """May statistics be compared with the present threshold too?"""
        before = self.record.threshold.pixel
        if found.pixel is None or before is None:
            return found.pixel is before
        return dataclasses.replace(found.pixel, threshold=0.0) == dataclasses.replace(before, threshold=0.0)


def task_for(
    asked: ThresholdRequest, record: EngineRecord, map_shape: tuple[int, int], grid: tuple[int, int] | None = None
) -> Task:
    """By score or by area, choosing a threshold or a minimal area: what the request says, else as the engine has it now.

    Args:
        map_shape: height, width of the engine's maps.
        grid: at which areas are counted when that is larger.

    Raises:
        BadInput: no threshold is given and none can be chosen, a value is not usable, or areas are asked for without a map.
    """
    now = record.threshold
    if asked.by != "area" and not asked.pixels and (asked.by == "score" or now.pixel is None):
        present = now.value if now.pixel is None else None
        return Task(
            record,
            lambda score, _: float(score),
            _wish(asked, now, asked.value, present),
            lambda choice: dataclasses.replace(now, value=choice.value, unknown_band=choice.band, pixel=None, by="score"),
        )
    before = now.pixel
    least = before.min_area_px if before else 1
    pixel = PixelRule(
        before.threshold if before else 0.0,
        least if asked.min_area is None else _pixels(asked.min_area, grid or map_shape),
        asked.regions if asked.regions is not None else before.regions if before else (),
        grid,
    )
    Rule(now.value, None, pixel, "area").check(map_shape)
    if asked.pixel_threshold is not None and asked.min_area is None and (asked.good or asked.defects):
        return _smallest_area(asked, record, dataclasses.replace(pixel, threshold=asked.pixel_threshold))
    by_hand = asked.value if asked.pixel_threshold is None else asked.pixel_threshold
    return Task(
        record,
        lambda _, anomaly_map: pixel.statistic(anomaly_map),
        _wish(asked, now, by_hand, before.threshold if before else None),
        lambda choice: dataclasses.replace(
            now, by="area", unknown_band=choice.band, pixel=dataclasses.replace(pixel, threshold=choice.value)
        ),
    )


def _smallest_area(asked: ThresholdRequest, record: EngineRecord, pixel: PixelRule) -> Task:
    """The pixel threshold is given, the minimal area is chosen: the statistic is the largest connected piece."""
    if asked.unknown_band not in (None, "none"):
        raise BadInput("an UNKNOWN band is one of thresholds, not of areas", hint="give --min-area, and the threshold is chosen")

    def finish(choice: Choice) -> Threshold:
        chosen = dataclasses.replace(pixel, min_area_px=max(1, int(choice.value)))
        return dataclasses.replace(record.threshold, by="area", unknown_band=None, pixel=chosen)

    wish = dataclasses.replace(_wish(asked, record.threshold, None, None), band=None, between=False)
    return Task(record, lambda _, anomaly_map: float(pixel.largest_area(anomaly_map)), wish, finish, next_whole)


def _wish(asked: ThresholdRequest, now: Threshold, by_hand: float | None, present: float | None) -> Wish:
    """The request as a wish; rates and UNKNOWN band that are not given stay as they were asked for.

    Args:
        by_hand: the threshold that the request gives, if any.
        present: the threshold that decides now, if it is one of the same kind; kept when there are no pictures.
    """
    if by_hand is None and not (asked.good or asked.defects):
        if present is None:
            raise BadInput("no threshold is given", hint="give --good DIR to choose one, or --set VALUE")
        by_hand = present
    if by_hand is not None and not math.isfinite(by_hand):
        raise BadInput(f"a threshold of {by_hand} decides nothing", hint="give a finite number in raw model units")
    false_reject = asked.max_false_reject
    if false_reject is None and asked.max_miss is None and now.chosen is not None:
        false_reject = now.chosen.max_false_reject
    wished = asked.unknown_band if asked.unknown_band is not None or present is None else _present_band(asked, now)
    return Wish(
        false_reject,
        asked.max_miss,
        asked.cost_ratio,
        asked.defect_rate,
        wished if isinstance(wished, float | tuple) else None,
        wished == "rates",
        by_hand,
    )


def _present_band(asked: ThresholdRequest, now: Threshold) -> Band | None:
    """The UNKNOWN band as it was asked for when that can be chosen anew, else as it is."""
    if now.unknown_band is None or now.chosen is None or not now.chosen.band:
        return now.unknown_band
    try:
        present = band(now.chosen.band)
    except ValueError as error:  # of a manifest that somebody wrote
        raise BundleError(f"the UNKNOWN band that was asked for: {error}", hint="give --unknown-band anew") from error
    both = asked.max_miss is not None and asked.max_false_reject is not None
    can = both if present == "rates" else bool(asked.good)
    return present if can or isinstance(present, tuple) else now.unknown_band


def _pixels(given: int | float, map_shape: tuple[int, int]) -> int:
    """Map pixels of a minimal area: a whole number is that, a share is rounded up."""
    height, width = map_shape
    return given if isinstance(given, int) else max(1, math.ceil(round(given * height * width, 6)))
