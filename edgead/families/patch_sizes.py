"""The part of a size rule that families on frozen patch features share."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from edgead.families.sizes import SizeRule
from edgead.models.patches import PatchFeatures
from edgead.models.rows import load_features
from edgead.published import published


class PatchSizes(SizeRule):
    """Of a family whose options are :class:`edgead.families.patches.PatchOptions`."""

    def __init__(self, options: Any, given: Collection[str] = ()) -> None:
        super().__init__(options, given)
        self.features = load_features(options.backbone, options.layers, options.weights, options.features)

    def new_features(self) -> PatchFeatures:
        """A copy of the features: some are prepared for one size for good."""
        return copy.deepcopy(self.features)

    def sides(self) -> tuple[int, int]:
        """Strides of 8 and 16 take any size; multiples of 16 lie best."""
        stride = published(self.options.backbone).stride
        multiple = stride if stride > 1 else 16
        return multiple, 2 * multiple

    def quick(self) -> Mapping[str, Any]:
        return {name: getattr(self.options, name) for name in ("backbone", "layers", "weights", "features")}
