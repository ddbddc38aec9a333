"""Rewrites of the anomaly map: told at the network's own resolution, or not at all. The score stays exactly the same.

Both are off unless they are asked for, since they change what a bundle's users get: `feature_map` a smaller map, which whoever
draws it or counts areas enlarges (:func:`edgead.decision.enlarged`), `score_only` no map at all.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from edgead.models.detector import Detector
from edgead.models.patches import ToModelSize
from edgead.models.rewrites import Material, Rewrite, Setting
from edgead.models.rewrites.settings import flag


class _PadOnly(nn.Module):
    """The first step alone of a :class:`edgead.families.efficientad.network.ToPicture`."""

    def __init__(self, to_picture: Any) -> None:
        super().__init__()
        self.to_picture = to_picture

    def forward(self, difference: Tensor) -> Tensor:
        padded: Tensor = self.to_picture.pad(difference)
        return padded


class _Around(Detector):
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


class FeatureMap(_Around):
    """A detector whose score is the largest value of its enlarged map (EfficientAD): the map is told before it is enlarged.

    Enlarging is linear and keeps constants, so the weighted sum of both maps may be taken before it, which enlarges one map
    in the place of two.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(copy.deepcopy(detector))
        self.to_picture: Any = self.changed.to_picture
        self.changed.to_picture = _PadOnly(self.to_picture)

    def told(self, anomaly_map: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        return anomaly_map, self.to_picture.stretch(anomaly_map.unsqueeze(1)).amax((1, 2, 3))


class ScoreOnly(_Around):
    """A detector that tells its score only; its map is one cell, N x 1 x 1, which holds the score."""

    def __init__(self, detector: Detector) -> None:
        super().__init__(copy.deepcopy(detector))

    def told(self, anomaly_map: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        return score.view(-1, 1, 1), score


def _feature_map(detector: Detector, setting: Setting, material: Material) -> Detector | None:
    if isinstance(detector, FeatureMap | ScoreOnly):
        return None
    if hasattr(detector, "to_picture"):
        return FeatureMap(detector)
    enlarging = getattr(detector, "to_model_size", None)
    if not isinstance(enlarging, ToModelSize) or enlarging.smooth is not None:  # blurred as it is enlarged
        return None
    changed = copy.deepcopy(detector)
    changed.to_model_size = nn.Identity()
    return changed


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
