"""What `edgead threshold` is asked to do, engine by engine: arguments and the present threshold -> what to choose, and how."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from edgead.bundle import EngineRecord, Threshold
from edgead.cli._rates import band
from edgead.decision import PixelRule, Region, Rule
from edgead.errors import BadInput
from edgead.thresholds.choose import Choice, Wish, next_float32, next_whole
from edgead.thresholds.pictures import Statistic


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
    args: argparse.Namespace, record: EngineRecord, map_shape: tuple[int, int], grid: tuple[int, int] | None = None
) -> Task:
    """By score or by area, choosing a threshold or a minimal area: what the arguments say, else as the engine has it now.

    Args:
        map_shape: height, width of the engine's maps.
        grid: at which areas are counted when that is larger.

    Raises:
        BadInput: no threshold is given and none can be chosen, a value is not usable, or areas are asked for without a map.
    """
    now = record.threshold
    asks_pixels = any(value is not None for value in (args.pixel_threshold, args.min_area, args.region))
    if args.by != "area" and not asks_pixels and (args.by == "score" or now.pixel is None):
        present = now.value if now.pixel is None else None
        return Task(
            record,
            lambda score, _: float(score),
            _wish(args, now, args.set, present),
            lambda choice: dataclasses.replace(now, value=choice.value, unknown_band=choice.band, pixel=None, by="score"),
        )
    before = now.pixel
    least = before.min_area_px if before else 1
    pixel = PixelRule(
        before.threshold if before else 0.0,
        least if args.min_area is None else _pixels(args.min_area, grid or map_shape),
        _regions(args.region, before.regions if before else ()),
        grid,
    )
    Rule(now.value, None, pixel, "area").check(map_shape)
    if args.pixel_threshold is not None and args.min_area is None and (args.good or args.defects):
        return _smallest_area(args, record, dataclasses.replace(pixel, threshold=args.pixel_threshold))
    by_hand = args.set if args.pixel_threshold is None else args.pixel_threshold
    return Task(
        record,
        lambda _, anomaly_map: pixel.statistic(anomaly_map),
        _wish(args, now, by_hand, before.threshold if before else None),
        lambda choice: dataclasses.replace(
            now, by="area", unknown_band=choice.band, pixel=dataclasses.replace(pixel, threshold=choice.value)
        ),
    )


def _smallest_area(args: argparse.Namespace, record: EngineRecord, pixel: PixelRule) -> Task:
    """The pixel threshold is given, the minimal area is chosen: the statistic is the largest connected piece."""
    if args.unknown_band not in (None, "none"):
        raise BadInput("an UNKNOWN band is one of thresholds, not of areas", hint="give --min-area, and the threshold is chosen")

    def finish(choice: Choice) -> Threshold:
        chosen = dataclasses.replace(pixel, min_area_px=max(1, int(choice.value)))
        return dataclasses.replace(record.threshold, by="area", unknown_band=None, pixel=chosen)

    wish = dataclasses.replace(_wish(args, record.threshold, None, None), band=None, between=False)
    return Task(record, lambda _, anomaly_map: float(pixel.largest_area(anomaly_map)), wish, finish, next_whole)


def _wish(args: argparse.Namespace, now: Threshold, by_hand: float | None, present: float | None) -> Wish:
    """The arguments as a wish; rates and UNKNOWN band that are not given stay as they were asked for.

    Args:
        by_hand: the threshold that the arguments give, if any.
        present: the threshold that decides now, if it is one of the same kind; kept when there are no pictures.
    """
    if by_hand is None and not (args.good or args.defects):
        if present is None:
            raise BadInput("no threshold is given", hint="give --good DIR to choose one, or --set VALUE")
        by_hand = present
    if by_hand is not None and not math.isfinite(by_hand):
        raise BadInput(f"a threshold of {by_hand} decides nothing", hint="give a finite number in raw model units")
    false_reject = args.max_false_reject
    if false_reject is None and args.max_miss is None and now.chosen is not None:
        false_reject = now.chosen.max_false_reject
    wished = args.unknown_band if args.unknown_band is not None or present is None else _present_band(args, now)
    return Wish(
        false_reject,
        args.max_miss,
        args.cost_ratio,
        args.defect_rate,
        wished if isinstance(wished, float | tuple) else None,
        wished == "rates",
        by_hand,
    )


def _present_band(args: argparse.Namespace, now: Threshold) -> float | tuple[float, float] | str | None:
    """The UNKNOWN band as it was asked for when that can be chosen anew, else as it is."""
    if now.unknown_band is None or now.chosen is None or not now.chosen.band:
        return now.unknown_band
    asked = band(now.chosen.band)
    both = args.max_miss is not None and args.max_false_reject is not None
    can = both if asked == "rates" else bool(args.good)
    return asked if can or isinstance(asked, tuple) else now.unknown_band


def _regions(given: list[Region | None] | None, present: tuple[Region, ...]) -> tuple[Region, ...]:
    if given is None:
        return present
    if None in given and len(given) > 1:
        raise BadInput("--region none goes alone", hint="the regions given replace all that were there")
    return tuple(one for one in given if one is not None)


def _pixels(given: int | float, map_shape: tuple[int, int]) -> int:
    """Map pixels of a minimal area: a whole number is that, a share is rounded up."""
    height, width = map_shape
    return given if isinstance(given, int) else max(1, math.ceil(round(given * height * width, 6)))
