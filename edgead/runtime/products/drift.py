"""Warns before rejects pile up, and says where to look: at the light, the lens, the camera's mount, or at the product.

Pictures are measured at model size, as the golden frames were stored, a few times a second on a thread of its own. What is usual
comes from the bundle's golden frames alone; see docs/selfchecks.md for what each number is and when it is too far away.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgead.bundle import Golden
from edgead.clock import Clock, MonotonicClock
from edgead.decision import Rule
from edgead.errors import BadInput, PartNotFound
from edgead.preprocess import PreprocessRecipe
from edgead.types import Image, Inspection, Verdict

PICTURES = 20  # of which three quarters must be away
STEADY = (20, 100)  # pictures whose median light is compared with that of training
STEADY_LIGHT = 0.10  # relative change of that median that is always tolerated
SIGMAS = 5.0  # ... and so many times its standard error
MEDIAN = 1.25  # standard error of a median over that of a mean, for normal numbers
SCORES = 50  # whose median and share of NG are compared
SMALL = 128  # pixels; shifts are found in pictures of this size
LIGHT, CONTRAST, FOCUS = 0.20, 0.35, 0.35  # relative changes that are always tolerated
SPREAD = 1.5  # ... and so many times the largest deviation among the golden frames
SHIFT = 0.03  # of the picture's side; always tolerated
ANYWHERE = 0.1  # of the picture's side; golden frames that differ by more have no place
MOST = 0.7  # of the golden frames must show the same
SURE = 0.15  # response of a phase correlation, below which two pictures do not show the same
HALFWAY = 0.5  # of the way from the usual score to the threshold
FADE = 0.8  # a warning goes away below so much of its limit
KINDS = ("light", "focus", "contrast", "position", "product")

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Look:
    """What one picture looks like.

    Attributes:
        light: mean grey level, 0 to 255.
        contrast: standard deviation of the grey levels over their mean: gain and exposure do not change it.
        focus: standard deviation of the Laplacian over that of the grey levels (variance of the Laplacian, Pech-Pacheco 2000,
            made independent of light and contrast).
    """

    light: float
    contrast: float
    focus: float

    @classmethod
    def of(cls, image: Image) -> Look:
        """Of an H x W x 3 uint8 picture at model size."""
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
        edges = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S, ksize=1))[1][0, 0])
        return cls(mean, deviation / max(mean, 1.0), edges / max(deviation, 1.0))


@dataclass(frozen=True, slots=True)
class TrainedLight:
    """Mean grey levels of the good pictures that training saw: many more than golden frames, so that a small shift that all
    pictures share is told, however much they differ among each other.

    Attributes:
        level: their median.
        spread: deviation of their logarithms (1.4826 times the median distance from the median).
        pictures: how many.
    """

    level: float
    spread: float
    pictures: int

    @classmethod
    def of(cls, figures: Mapping[str, object]) -> TrainedLight | None:
        """From what training measured (``light``, ``light_spread``, ``light_pictures``); None where that is not there (bundles of
        before) or cannot be."""
        found = []
        for name, least, most in (("light", 1e-3, 255.0), ("light_spread", 1e-6, 10.0), ("light_pictures", 1.0, 1e9)):
            value = figures.get(name)
            if not isinstance(value, float) or not least <= value <= most:
                return None
            found.append(value)
        return cls(found[0], found[1], round(found[2]))

    def shift(self, levels: Sequence[float]) -> float:
        """By how much the median of these grey levels is away, 1 at the limit, and on which side."""
        error = MEDIAN * self.spread * math.sqrt(1 / len(levels) + 1 / self.pictures)
        limit = max(-math.log(1 - STEADY_LIGHT), SIGMAS * error)
        return math.log(max(float(np.median(levels)), 1e-3) / self.level) / limit


class Usual:
    """What pictures and scores of a bundle are like, from its golden frames, and their light also from training.

    Args:
        golden: the bundle's.
        recipe: from the camera's picture to the model's input.
        rule: what decides now.
        trained_threshold: which golden frames are good: the trained model's, raw model units.
        light: of the good pictures of training.
    """

    def __init__(
        self,
        golden: Golden,
        recipe: PreprocessRecipe,
        rule: Rule | float,
        trained_threshold: float,
        light: TrainedLight | None = None,
    ) -> None:
        self.recipe, self.light = recipe, light
        looks = [Look.of(image) for image in golden.images]
        self._centre, self._limits = {}, {}
        for name, tolerated in (("light", LIGHT), ("contrast", CONTRAST), ("focus", FOCUS)):
            values = [max(getattr(look, name), 1e-3) for look in looks]
            self._centre[name] = float(np.median(values))
            widest = max(abs(math.log(value / self._centre[name])) for value in values)
            self._limits[name] = max(-math.log(1 - tolerated), SPREAD * widest)
        self._window = cv2.createHanningWindow((SMALL, SMALL), cv2.CV_32F)
        self._place: FloatArray | None = None
        self._centre_shift = (0.0, 0.0)
        self.shift_limit = SHIFT
        self._find_place(golden.images)
        rule = Rule.of(rule)
        good = golden.reference.scores[golden.reference.scores < trained_threshold]
        self.usual_score = float(np.median(good)) if good.size and rule.by == "score" else math.nan
        self.level = rule.level

    @property
    def knows_place(self) -> bool:
        """Do the golden frames show parts at one place? Else shifts cannot be told."""
        return self._place is not None

    def change(self, name: str, value: float) -> float:
        """Of a number of `Look`: 0 is usual, -0.4 is 40 % less."""
        return max(value, 1e-3) / self._centre[name] - 1

    def beyond(self, name: str, change: float) -> float:
        """How far a change is away, 1 at the limit."""
        return abs(math.log(max(1 + change, 1e-6))) / self._limits[name]

    def shift(self, image: Image) -> tuple[float, float] | None:
        """Right and down against the golden frames, in shares of width and height; None when it cannot be told."""
        found = self._shift(image) if self._place is not None else None
        return None if found is None else (found[0] - self._centre_shift[0], found[1] - self._centre_shift[1])

    def way(self, score: float) -> float:
        """Of the way from the usual score (0) to the threshold (1); NaN when that cannot be told."""
        span = self.level - self.usual_score
        return (score - self.usual_score) / span if span > 0 else math.nan

    def _find_place(self, images: Sequence[Image]) -> None:
        """Most golden frames show the same at nearly the same place as the first: then no texture deceives."""
        self._place = _small(images[0])
        found = np.array([shift for image in images[1:] if (shift := self._shift(image)) is not None])
        if len(found) < max(1, MOST * (len(images) - 1)):
            self._place = None
            return
        self._centre_shift = (float(np.median(found[:, 0])), float(np.median(found[:, 1])))
        widest = float(np.abs(found - self._centre_shift).max())
        self.shift_limit = max(SHIFT, SPREAD * widest)
        if widest > ANYWHERE:
            self._place = None

    def _shift(self, image: Image) -> tuple[float, float] | None:
        assert self._place is not None
        (right, down), response = cv2.phaseCorrelate(self._place, _small(image), self._window)
        return (right / SMALL, down / SMALL) if response >= SURE else None


class DriftWatch:
    """Compares what comes with what is usual; for :meth:`edgead.runtime.loop.station.Station.on_inspection`.

    Args:
        usual: by the name of the engine that answers (:attr:`Inspection.engine`); other inspections are not looked at. May grow.
        notice: told kind (one of `KINDS`) and text, "" when it is over; :meth:`edgead.runtime.loop.station.Station.notice`.
        every_s: a picture is measured at most so often, after the first 20; scores always.
        max_ng: the share of NG parts that is usual at most.
        clock: for `every_s`.

    Raises:
        BadInput: `max_ng` is not between 0 and 1.
    """

    def __init__(
        self,
        usual: Mapping[str, Usual],
        notice: Callable[[str, str], None],
        *,
        every_s: float,
        max_ng: float,
        clock: Clock | None = None,
    ) -> None:
        if not 0 < max_ng <= 1:
            raise BadInput(f"a share of NG parts of {max_ng} is not above 0 and at most 1")
        self._usual, self._notice, self._max_ng = usual, notice, max_ng
        self._every_ns, self._clock = round(every_s * 1e9), clock or MonotonicClock()
        self._next_ns = self._clock.now_ns()
        self._told: dict[str, str] = dict.fromkeys(KINDS, "")
        self._begin("")

    def see(self, inspection: Inspection) -> None:
        """Look at one part."""
        usual = self._usual.get(inspection.engine)
        if usual is None:
            return
        if inspection.engine != self._engine:  # another product: nothing of the one before counts
            self._begin(inspection.engine)
        if inspection.verdict is not Verdict.UNKNOWN:
            self._ng.append(inspection.verdict is Verdict.NG)
        if math.isfinite(way := usual.way(inspection.score)):
            self._ways.append(way)
        due = len(self._looks["light"]) < PICTURES or self._clock.now_ns() >= self._next_ns
        if inspection.frame is not None and due:
            self._next_ns = self._clock.now_ns() + self._every_ns
            with suppress(PartNotFound):  # there is no part to be measured: its verdict says so
                self._measure(usual, usual.recipe.apply(inspection.frame.image))
        self._tell(self._pictures(usual) | {"product": self._product()})

    def _begin(self, engine: str) -> None:
        self._engine = engine
        self._looks: dict[str, deque[float]] = {name: deque(maxlen=PICTURES) for name in ("light", "contrast", "focus")}
        self._levels: deque[float] = deque(maxlen=STEADY[-1])
        self._shifts: deque[tuple[float, float]] = deque(maxlen=PICTURES)
        self._ways: deque[float] = deque(maxlen=SCORES)
        self._ng: deque[bool] = deque(maxlen=SCORES)
        self._tell(dict.fromkeys(KINDS, ""))

    def _measure(self, usual: Usual, image: Image) -> None:
        look = Look.of(image)
        self._levels.append(look.light)
        for name, values in self._looks.items():
            values.append(usual.change(name, getattr(look, name)))
        if (shift := usual.shift(image)) is not None:
            self._shifts.append(shift)

    def _pictures(self, usual: Usual) -> dict[str, str]:
        """What is wrong with the pictures; of faults that cause each other only the first."""
        told = dict.fromkeys(KINDS[:4], "")
        if len(self._looks["light"]) < PICTURES:
            return told
        change = {name: float(np.median(values)) for name, values in self._looks.items()}
        off = {name: usual.beyond(name, _most(values)) > self._limit(name) for name, values in self._looks.items()}
        steady = self._steady(usual)
        if off["light"]:
            told["light"] = _light(change["light"])
        elif steady:
            told["light"] = _light(steady)
        elif off["focus"] and change["focus"] < 0:
            told["focus"] = (
                f"pictures are blurred: {_percent(change['focus'])} less sharp than the reference at normal light. "
                "Look at the lens: focus, dirt, a loose ring, vibration"
            )
        elif off["contrast"]:
            told["contrast"] = (
                f"contrast is {_percent(change['contrast'])} {'lower' if change['contrast'] < 0 else 'higher'} than in the "
                "reference at normal light. Look for stray light, glare, or dirt on the lens"
            )
        if len(self._shifts) == PICTURES:
            both = tuple(zip(*self._shifts, strict=True))
            right, down = (float(np.median(values)) for values in both)
            if max(abs(_most(values)) for values in both) > usual.shift_limit * self._limit("position"):
                told["position"] = (
                    f"parts are {_percent(right)} of the picture {'right' if right > 0 else 'left'} and {_percent(down)} "
                    f"{'below' if down > 0 else 'above'} where the reference has them. "
                    "Look at the camera's mount, the fixture, the trigger's delay"
                )
        return told

    def _steady(self, usual: Usual) -> float:
        """By how much all pictures are brighter (or darker: below 0) than those of training; 0 within the limits."""
        if usual.light is None:
            return 0.0
        for count in STEADY:
            levels = tuple(self._levels)[-count:]
            if len(levels) == count and abs(usual.light.shift(levels)) > self._limit("light"):
                return float(np.median(levels)) / usual.light.level - 1
        return 0.0

    def _product(self) -> str:
        if min(len(self._ng), len(self._looks["light"])) < PICTURES:
            return ""  # nobody could say whose fault it is
        limit = self._limit("product")
        ng, way = sum(self._ng), float(np.median(self._ways)) if len(self._ways) >= PICTURES else -math.inf
        if ng > self._max_ng * limit * len(self._ng):
            found = f"{ng} of the last {len(self._ng)} parts are NG"
        elif way > HALFWAY * limit:
            found = f"scores rise: {way:.0%} of the way from the usual one to the threshold"
        else:
            return ""
        changed = [name for name in KINDS[:4] if self._told[name]]
        if changed:
            return f"{found}, and the pictures have changed ({', '.join(changed)}). Look at the camera first"
        return f"{found}, while light, sharpness and contrast are as usual. Look at the product, not at the camera"

    def _limit(self, kind: str) -> float:
        return FADE if self._told[kind] else 1.0

    def _tell(self, found: Mapping[str, str]) -> None:
        for kind, text in found.items():
            if bool(text) != bool(self._told[kind]):  # numbers that move are no news
                self._notice(kind, text)
                self._told[kind] = text


def _most(values: Iterable[float]) -> float:
    """So far away, on one side, are three quarters of them at least; 0 when they are on both sides."""
    low, high = np.percentile(tuple(values), (25, 75))
    return float(low if low > 0 else min(high, 0.0))


def _light(change: float) -> str:
    if change < 0:
        return f"pictures are {_percent(change)} darker than the reference. Look at the light: lamp, cable, exposure, lens cap"
    return f"pictures are {_percent(change)} brighter than the reference. Look at the light: exposure, gain, daylight, glare"


def _percent(share: float) -> str:
    return f"{abs(share):.0%}"


def _small(image: Image) -> FloatArray:
    """Grey, small, the mean taken away."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(grey - grey.mean(), np.float32)
