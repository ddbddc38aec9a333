"""Rewrites of the anomaly map: told at the network's own resolution, or not at all. The score stays exactly the same.

Both are off unless they are asked for, since they change what a bundle's users get: `feature_map` a smaller map, which whoever
draws it or counts areas enlarges (:func:`edgead.decision.enlarged`), `score_only` no map at all.
"""

from __future__ import annotations

import copy

from torch import Tensor

from edgead.models.detector import Detector
from edgead.models.rewrites import Material, Rewrite, Setting
from edgead.models.rewrites.settings import flag


class Around(Detector):
    """A changed copy of a detector, whose answers become others."""

    def __init__(self, changed: Detector) -> None:
        super().__init__(changed.config, changed.image_size)
        self.family = changed.family  # type: ignore[misc]
        self.changed = changed

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.told(*self.changed(image))  # which may take the picture in its own way

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.told(*self.changed.detect(pixels))

    def told(self, anomaly_map: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """What is told in the place of the changed copy's answer."""
        raise NotImplementedError


class ScoreOnly(Around):
    """A detector that tells its score only; its map is one cell, N x 1 x 1, which holds the score."""

    def __init__(self, detector: Detector) -> None:
        super().__init__(copy.deepcopy(detector))

    def told(self, anomaly_map: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        return score.view(-1, 1, 1), score


def _feature_map(detector: Detector, setting: Setting, material: Material) -> Detector | None:
    return detector.unenlarged()


def _score_only(detector: Detector, setting: Setting, material: Material) -> Detector | None:
    return None if isinstance(detector, ScoreOnly) else ScoreOnly(detector)


REWRITES: tuple[Rewrite, ...] = (
    Rewrite(
        name="feature_map",
        exact=True,
        summary="the anomaly map at the network's own resolution; it is enlarged where it is drawn or areas are counted",
        parse=flag,
        apply=_feature_map,
        tries=lambda config: (True,),
    ),
    Rewrite(
        name="score_only",
        exact=True,
        summary="no anomaly map: one cell that holds the score",
        parse=flag,
        apply=_score_only,
    ),
)
