"""The size rule of a one-class model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edgead.families.oneclass.fit import config_of
from edgead.families.oneclass.network import OneClass
from edgead.families.patch_sizes import BackboneSizes
from edgead.families.sizes import Engine
from edgead.models.detector import Detector


class OneClassSizes(BackboneSizes):
    """Its time depends on the size alone. Made up defects are as large as the picture lets them be: none beyond its own size is
    tried."""

    engine: ClassVar[Engine] = Engine(0.75, 0.55, 0.5)
    grows: ClassVar[bool] = False

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        backbone = self.new_backbone() if self.options.network == "head" else None
        return OneClass(config_of(self.options, backbone), size, backbone).eval()

    def quick(self) -> Mapping[str, Any]:
        return super().quick() if self.options.network == "head" else {}
