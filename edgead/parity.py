"""Does an engine answer as the reference did? Two sets of answers on the same frames -> a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.decision import enlarged, tells_no_map
from edgead.typed import Count, NotNegative
from edgead.types import AnomalyMap, Engine, Image

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one engine or the trained model said: `scores` float32 N, `maps` float32 N x h x w, raw model units.

    Maps may be smaller than the trained model's (at the network's own resolution), or 1 x 1: then there is only a score.
    """

    scores: FloatArray
    maps: FloatArray

    def on(self, reference: Answers) -> Answers:
        """The same with maps of the size of the `reference`'s: smaller ones enlarged bilinearly, as its own were in its graph.

        Where only a score is told the reference's own maps are taken: a map that nobody tells differs from nothing.

        Raises:
            ValueError: other frames than the reference's, or larger maps.
        """
        if self.maps.shape == reference.maps.shape:
            return self
        (frames, *own), (wanted, *shape) = self.maps.shape, reference.maps.shape
        if frames != wanted or own[0] > shape[0] or own[1] > shape[1]:
            raise ValueError(f"maps of shape {self.maps.shape} do not fit a reference of {reference.maps.shape}")
        if tells_no_map(own):
            return Answers(self.scores, np.where(np.isfinite(self.maps), reference.maps, self.maps))
        larger = np.empty(reference.maps.shape, np.float32)
        for target, small in zip(larger, self.maps, strict=True):
            target[:] = enlarged(small, shape)
        return Answers(self.scores, larger)


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far an engine's answers are from the reference's.

    Attributes:
        frames: number of frames compared.
        score_error: largest |score - reference| over the range of the reference maps.
        map_error: largest |map - reference| over the range of the reference maps, at their size (see :meth:`Answers.on`); 0 where
            only a score is told.
        score_deviation: mean |score - reference| over the standard deviation of the reference scores (0 if that is 0); tells
            whether an INT8 engine still separates parts.
        label_flips: frames whose label at the threshold differs (each side with its own threshold).
    """

    frames: Count
    score_error: NotNegative
    map_error: NotNegative
    score_deviation: NotNegative
    label_flips: Count

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ask(engine: Engine, images: Iterable[Image]) -> Answers:
    """The engine's answers on model-size frames (H x W x 3 uint8 BGR each)."""
    scores: list[float] = []
    maps: list[AnomalyMap] = []
    for image in images:
        score, anomaly_map = engine.infer(image)
        scores.append(score)
        maps.append(anomaly_map)
    return Answers(np.array(scores, np.float32), np.stack(maps) if maps else np.empty((0, 0, 0), np.float32))


def compare(reference: Answers, other: Answers, threshold: float, other_threshold: float | None = None) -> ParityReport:
    """Compare answers on the same frames; values that are not finite count as an infinite error.

    Args:
        threshold: scores at or above are NG.
        other_threshold: the other side's own threshold; None takes the same.
    """
    other = other.on(reference)
    span = float(np.ptp(reference.maps)) or 1.0
    score_delta = np.abs(other.scores - reference.scores)
    map_delta = np.abs(other.maps - reference.maps)
    deviation = float(np.std(reference.scores))
    flips = (reference.scores >= threshold) != (other.scores >= (threshold if other_threshold is None else other_threshold))
    return ParityReport(
        frames=len(reference.scores),
        score_error=_largest(score_delta) / span,
        map_error=_largest(map_delta) / span,
        score_deviation=float(np.mean(score_delta)) / deviation if deviation else 0.0,
        label_flips=int(flips.sum()),
    )


def _largest(delta: FloatArray) -> float:
    if delta.size == 0:
        return 0.0
    return float(delta.max()) if bool(np.isfinite(delta).all()) else float("inf")
