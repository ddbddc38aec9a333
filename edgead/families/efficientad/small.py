"""EfficientAD's map at the resolution of its cells."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from edgead.models.detector import Detector
from edgead.models.rewrites.maps import Around


class _PadOnly(nn.Module):
    """The first step alone of a :class:`edgead.families.efficientad.network.ToPicture`."""

    def __init__(self, to_picture: Any) -> None:
        super().__init__()
        self.to_picture = to_picture

    def forward(self, difference: Tensor) -> Tensor:
        padded: Tensor = self.to_picture.pad(difference)
        return padded


class SmallMap(Around):
    """A detector whose score is the largest value of its enlarged map: the map is told before it is enlarged.

    Enlarging is linear and keeps constants, so the weighted sum of both maps may be taken before it, which enlarges one map
    in the place of two.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(copy.deepcopy(detector))
        self.to_picture: Any = self.changed.to_picture
        self.changed.to_picture = _PadOnly(self.to_picture)

    def told(self, anomaly_map: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        return anomaly_map, self.to_picture.stretch(anomaly_map.unsqueeze(1)).amax((1, 2, 3))
