"""The parts of a size rule that families on a published backbone's features share."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from edgead.families.sizes import SizeRule
from edgead.models.backbones import Backbone, build_backbone
from edgead.models.patches import PatchFeatures, build_features
from edgead.models.rows import load_features
from edgead.published import published


class BackboneSizes(SizeRule):
    """Of a family whose options are :class:`edgead.families.patches.BackboneOptions`, or have these fields."""

    grows: ClassVar[bool] = True

    def sides(self) -> tuple[int, int]:
        """Strides of 8 and 16 take any size; multiples of 16 lie best."""
        stride = published(self.options.backbone).stride
        multiple = stride if stride > 1 else 16
        return multiple, 2 * multiple

    def quick(self) -> Mapping[str, Any]:
        return {name: getattr(self.options, name) for name in ("backbone", "layers", "weights")}

    def new_backbone(self, layers: Sequence[str] | None = None) -> Backbone:
        """One without weights, which takes as long as one that has some.

        Args:
            layers: where the options name none.
        """
        return build_backbone(self.options.backbone, self.options.layers or layers)


def unweighted(backbone: Backbone, kind: str) -> PatchFeatures:
    """Patch features of a backbone without weights, of this kind or of the one that it takes."""
    wanted = {"kind": backbone.patch_features or kind}
    return build_features({"backbone": backbone.name, "layers": backbone.layers, "features": wanted}, backbone).eval()


class PatchSizes(BackboneSizes):
    """Of a family whose options are :class:`edgead.families.patches.PatchOptions`."""

    always: ClassVar[bool] = True

    def __init__(self, options: Any, given: Collection[str] = ()) -> None:
        super().__init__(options, given)
        self.features = load_features(options.backbone, options.layers, options.weights, options.features)

    def new_features(self) -> PatchFeatures:
        """A copy of the features: some are prepared for one size for good."""
        return copy.deepcopy(self.features)

    def quick(self) -> Mapping[str, Any]:
        return {**super().quick(), "features": self.options.features}
