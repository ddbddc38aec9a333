"""How far an INT8 engine is from the trained model, how far it may be, and what the pictures at hand can tell (decision 31)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.parity import Answers, FloatArray
from edgead.thresholds.conformal import upper_rate
from edgead.types import Image

ONE_SIDED_95 = 1.645
"""Standard errors from which a loss is told from none: with 95 % confidence, one-sided."""

DOUBT = 4.0
"""A loss of AUROC that the pictures cannot tell from none is tolerated up to so many times the limit, and no further: who has so
few pictures that a larger one could be chance does not know that the engine is as good."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """An engine's answers against the trained model's on the same frames.

    Attributes:
        frames: how many.
        score_deviation: mean |score - trained| over the standard deviation of the trained model's scores; the best single figure
            for whether INT8 still separates parts.
        map_deviation: mean |map - trained| over the standard deviation of all values of the trained model's maps.
        rank_correlation: Spearman's, of the scores; 0 when all scores of one side are equal.
        label_flips: frames whose label differs, each side with its own threshold.
        auroc: of the engine on good frames against defects; None without both.
        auroc_change: that minus the trained model's (negative: worse); None without both.
        auroc_error: one standard error of that change. Both sides saw the same frames, so what is hard for both cancels out
            (:func:`paired_error`). None without both kinds.
        flips_expected: share of labels that would differ if each of these scores could be off by as much as any other one is. A
            threshold that was chosen on these very frames lies in a gap between their scores, where few of them flip; other
            parts do not know of the gap.
    """

    frames: int
    score_deviation: float
    map_deviation: float
    rank_correlation: float
    label_flips: int
    auroc: float | None
    auroc_change: float | None
    auroc_error: float | None = None
    flips_expected: float = 0.0

    @property
    def flips_at_most(self) -> float:
        """Share of labels that differ on pictures like these, at most, with 95 % confidence (Clopper and Pearson)."""
        return upper_rate(self.label_flips, self.frames) if self.frames else 1.0

    @property
    def loses_for_certain(self) -> bool:
        """Whether a loss of AUROC can be told from none with these frames, with 95 % confidence."""
        return self.auroc_change is not None and -self.auroc_change > ONE_SIDED_95 * (self.auroc_error or 0.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"flips_at_most": round(self.flips_at_most, 6)}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is tolerated of an INT8 engine.

    The burden of proof differs. Labels are promised on the pictures that were asked: a flip more than allowed was seen, and is
    refused whatever chance may have to do with it. An AUROC is an estimate: a loss over the limit is refused when the pictures
    can tell it from none, and from `DOUBT` times the limit on in any case.

    Attributes:
        max_flips: share of frames whose label differs; one frame is always tolerated, since with few frames a share says nothing.
        max_auroc_drop: loss of AUROC, 0.005 being half a point; what one swapped pair of frames costs is always tolerated.
        max_score_deviation: see :class:`Deviation`.
    """

    max_flips: float = 0.01
    max_auroc_drop: float = 0.005
    max_score_deviation: float = 0.2

    def __post_init__(self) -> None:
        for name, value in (("flips", self.max_flips), ("AUROC drop", self.max_auroc_drop)):
            if not 0.0 <= value <= 1.0:
                raise BadInput(f"a tolerated {name} of {value} is not usable", hint="give a share between 0 and 1")
        if not 0.0 <= self.max_score_deviation < float("inf"):
            raise BadInput(f"a tolerated score deviation of {self.max_score_deviation} is not usable", hint="give 0 or more")

    def flips(self, frames: int) -> int:
        """Labels that may differ of so many."""
        return max(1, int(self.max_flips * frames + 1e-9))

    def broken(self, found: Deviation, pairs: int) -> tuple[str, ...]:
        """Words for each limit that is broken, none when all hold; `pairs` counts pairs of a good frame and a defect."""
        words = []
        if not found.score_deviation <= self.max_score_deviation:
            words.append(f"score deviation {found.score_deviation:.3g} (allowed {self.max_score_deviation:g})")
        if found.label_flips > self.flips(found.frames):
            words.append(f"{found.label_flips} of {found.frames} labels flip (allowed {self.flips(found.frames)})")
        if self._over_drop(found, pairs) and not self._doubtful(found):
            words.append(f"{_aurocs(found)} (allowed drop {self._drop(pairs):.2g}{_give_or_take(found)})")
        return tuple(words)

    def doubts(self, found: Deviation, pairs: int) -> tuple[str, ...]:
        """Words for what is over a limit, and tolerated because the pictures cannot tell it from nothing."""
        words = []
        if self._over_drop(found, pairs) and self._doubtful(found):
            words.append(
                f"{_aurocs(found)}: over the drop of {self._drop(pairs):.2g} that is allowed, but these pictures cannot tell it "
                f"from none{_give_or_take(found)}; more labelled ones would"
            )
        allowed = self.flips(found.frames)
        if found.label_flips <= allowed and found.flips_expected * found.frames > allowed:
            words.append(
                f"{found.label_flips} of {found.frames} labels flip, but scores lie so close to the threshold that of other "
                f"parts about {100 * found.flips_expected:.1f} % may; where that matters run an FP32 engine"
            )
        return tuple(words)

    def _drop(self, pairs: int) -> float:
        return max(self.max_auroc_drop, 1.0 / pairs if pairs else 0.0)

    def _over_drop(self, found: Deviation, pairs: int) -> bool:
        return found.auroc_change is not None and -found.auroc_change > self._drop(pairs) * (1 + 1e-9)

    def _doubtful(self, found: Deviation) -> bool:
        return not found.loses_for_certain and -(found.auroc_change or 0.0) <= DOUBT * self.max_auroc_drop


def _aurocs(found: Deviation) -> str:
    assert found.auroc is not None and found.auroc_change is not None
    return f"AUROC {found.auroc:.4f} of {found.auroc - found.auroc_change:.4f}"


def _give_or_take(found: Deviation) -> str:
    return f"; standard error of the difference {found.auroc_error:.2g}" if found.auroc_error else ""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Frames, the trained model's answers on them, and the labels that AUROC is measured with.

    Attributes:
        images: H x W x 3 uint8 BGR at model size.
        reference: the trained model's answers.
        threshold: the trained model's.
        own_threshold: an engine's scores on all frames -> its own threshold.
        good, defect: which frames are good ones and defects for AUROC.
        drawn: the defects are drawn onto good pictures, there being no real ones.
    """

    images: tuple[Image, ...]
    reference: Answers
    threshold: float
    own_threshold: Callable[[FloatArray], float]
    good: range
    defect: range
    drawn: bool = False

    @property
    def pairs(self) -> int:
        return len(self.good) * len(self.defect)

    def auroc(self, answers: Answers) -> float | None:
        return auroc(*(answers.scores[part.start : part.stop] for part in (self.good, self.defect)))

    def measure(self, answers: Answers) -> Deviation:
        """An engine's answers on `images` against the reference."""
        answers = answers.on(self.reference)
        trained, told = self.auroc(self.reference), self.auroc(answers)
        scores, own = self.reference.scores, self.own_threshold(answers.scores)
        labels = scores >= self.threshold
        moved = scores[:, None] + (answers.scores - scores)
        return Deviation(
            frames=len(self.images),
            score_deviation=self.score_deviation(answers, self.reference),
            map_deviation=_relative(answers.maps, self.reference.maps, self.reference.maps),
            rank_correlation=rank_correlation(self.reference.scores, answers.scores),
            label_flips=int((labels != (answers.scores >= own)).sum()),
            auroc=told,
            auroc_change=None if told is None or trained is None else told - trained,
            auroc_error=self._auroc_error(answers),
            flips_expected=float((labels[:, None] != (moved >= own)).mean()),
        )

    def _auroc_error(self, answers: Answers) -> float | None:
        if not self.pairs:
            return None
        good, defect = slice(self.good.start, self.good.stop), slice(self.defect.start, self.defect.stop)
        one, other = self.reference.scores, answers.scores
        return paired_error((one[good], one[defect]), (other[good], other[defect]))

    def score_deviation(self, one: Answers, other: Answers) -> float:
        """Mean |score difference| over the standard deviation of the trained model's scores on all frames."""
        return _relative(one.scores, other.scores, self.reference.scores)


def auroc(good: npt.NDArray[np.float32], defect: npt.NDArray[np.float32]) -> float | None:
    """Probability that a defect scores higher than a good part, ties count half; None when one kind is missing."""
    if not len(good) or not len(defect):
        return None
    return float(_below(good, defect).mean())


def paired_error(one: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> float:
    """One standard error of the difference of two AUROCs on the same frames, by DeLong, DeLong and Clarke-Pearson (1988).

    Args:
        one, other: each side's scores of the good frames and of the defects, 1 or more of each. When the sides have not the same
            numbers of them, they are other frames: nothing cancels out.
    """
    (good, defect), (good_other, defect_other) = (_placements(*side) for side in (one, other))
    if len(good) != len(good_other) or len(defect) != len(defect_other):
        return float(np.sqrt(sum(_variance(part) for part in (good, defect, good_other, defect_other))))
    return float(np.sqrt(_variance(good - good_other) + _variance(defect - defect_other)))


def auroc_error(good: FloatArray, defect: FloatArray) -> float:
    """One standard error of one AUROC, of the same authors."""
    return float(np.sqrt(sum(_variance(part) for part in _placements(good, defect))))


def _placements(good: FloatArray, defect: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For each good frame the share of defects above it, for each defect the share of good frames below it; ties count half."""
    return 1.0 - _below(defect, good), _below(good, defect)


def _below(many: FloatArray, values: FloatArray) -> npt.NDArray[np.float64]:
    """For each value the share of `many` that is below it, ties counting half."""
    ordered = np.sort(many)
    places = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(places / (2.0 * len(many)), np.float64)


def _variance(values: npt.NDArray[np.float64]) -> float:
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0


def rank_correlation(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Spearman's rank correlation of two N scores, ties sharing their mean rank; 0 when either side is constant."""
    ranks = []
    for values in (one, other):
        ordered = np.sort(values)
        rank = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2.0
        ranks.append(rank - rank.mean())
    norm = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum()) / norm if norm else 0.0


def _relative(one: FloatArray, other: FloatArray, spread_of: FloatArray) -> float:
    """Mean |one - other| over the standard deviation of the third; infinite where a value is not finite."""
    delta = float(np.mean(np.abs(one.astype(np.float64) - other)))
    spread = float(np.std(spread_of, dtype=np.float64))
    if not np.isfinite(delta):
        return float("inf")
    return delta / spread if spread else (0.0 if delta == 0.0 else float("inf"))
