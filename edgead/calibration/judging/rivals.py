"""Which of several models is best, by what all of them said of the same pictures, and how sure that is.

What decides is the image AUROC on real defects from `FEWEST` on, else on drawn ones. How sure it is comes from the pictures: they
are drawn anew with replacement, the same ones for all models, and it is counted how often each is the best (bootstrap). That says
nothing of what drawing cannot imitate: how near drawn defects are to real ones, no picture of a good part can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgead.calibration.judging.deviation import auroc, auroc_error

FEWEST = 10
"""Real defects, and good pictures beside them, from which they decide."""

DRAWS, SURE = 2000, 1.96

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Said:
    """A model's scores: of good pictures and drawn defects; of labelled good pictures and real defects, both may be empty."""

    good: Scores
    drawn: Scores
    real_good: Scores
    real: Scores

    def sides(self, real: bool) -> tuple[Scores, Scores]:
        """Scores of good pictures and of defects. Beside real defects the labelled good pictures stand, and, where these are few,
        those held out, too."""
        if not real:
            return self.good, self.drawn
        return (self.real_good if len(self.real_good) >= FEWEST else np.concatenate([self.real_good, self.good])), self.real

    @property
    def decides(self) -> bool:
        """Whether there are real defects enough."""
        return len(self.real) >= FEWEST and len(self.sides(True)[0]) >= FEWEST


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model is worth.

    Attributes:
        auroc, half: on drawn defects, and half of the 95 % interval (DeLong).
        real_auroc, real_half: on real ones; None without.
        best: share of drawings of the pictures in which it is the best one.
    """

    auroc: float
    half: float
    real_auroc: float | None
    real_half: float | None
    best: float

    def decisive(self, real: bool) -> float:
        """The AUROC that decides."""
        return self.real_auroc if real and self.real_auroc is not None else self.auroc


def judge_all(said: Mapping[str, Said], seed: int = 0) -> dict[str, Judged]:
    """What each model is worth, the best one first."""
    real = real_decide(said)
    shares = best_shares({name: one.sides(real) for name, one in said.items()}, seed)
    judged = {name: _judged(one, shares[name]) for name, one in said.items()}
    return dict(sorted(judged.items(), key=lambda item: -item[1].decisive(real)))


def real_decide(said: Mapping[str, Said]) -> bool:
    """Whether real defects decide."""
    return bool(said) and all(one.decides for one in said.values())


def best_shares(sides: Mapping[str, tuple[Scores, Scores]], seed: int = 0) -> dict[str, float]:
    """In which share of `DRAWS` drawings of the pictures, with replacement, each model has the largest AUROC. Equal ones share.

    Args:
        sides: scores of good pictures and of defects, of the same pictures in the same order.
    """
    rng = np.random.default_rng([seed, 3])
    good, defects = next(iter(sides.values()))
    times_good, times_bad = (rng.multinomial(len(one), np.full(len(one), 1 / len(one)), DRAWS) for one in (good, defects))
    drawn = np.stack([_drawn(*one, times_good, times_bad) for one in sides.values()])
    first = drawn >= drawn.max(0) - 1e-9
    return dict(zip(sides, (first / first.sum(0)).mean(1).tolist(), strict=True))


def _drawn(
    good: Scores, defects: Scores, times_good: npt.NDArray[np.int64], times_bad: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The AUROC of each drawing."""
    wins = (defects[:, None] > good) + 0.5 * (defects[:, None] == good)
    return np.asarray(((times_bad @ wins) * times_good).sum(1) / wins.size, np.float64)


def _judged(one: Said, best: float) -> Judged:
    value, own = auroc(*one.sides(False)), auroc(*one.sides(True))
    assert value is not None  # there are held-out pictures, and defects drawn onto them
    half = None if own is None else round(SURE * auroc_error(*one.sides(True)), 4)
    drawn_half = round(SURE * auroc_error(*one.sides(False)), 4)
    return Judged(round(value, 4), drawn_half, None if own is None else round(own, 4), half, round(best, 3))
