"""The kinds of networks, maskings, necks and projections that a reconstruction is mixed from, as text: nothing here needs torch.

How to add one: its class in edgead/models/parts/ (what it has to have says :mod:`edgead.models.parts.convnets` of a network,
:class:`edgead.models.parts.masks.Masking` of a masking, :class:`edgead.models.parts.necks.Neck` of a neck), and a line here. What
it takes and no option is there for yet becomes a field of :class:`edgead.families.reconstruction.options.ReconstructionOptions`
whose default is None: the usual value stands here, and an option that nothing chosen takes is refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PARTS = "edgead.models.parts"


@dataclass(frozen=True, slots=True)
class Kind:
    """One.

    Attributes:
        made_by: its class, ``"module:name"``.
        takes: options that are its arguments, and their usual values.
    """

    made_by: str
    takes: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        module, _, name = self.made_by.partition(":")
        return getattr(importlib.import_module(module), name)


NETWORKS: Mapping[str, Kind] = {
    "ae": Kind(f"{_PARTS}.convnets:Autoencoder", {"base": 16}),
    "bergmann": Kind(f"{_PARTS}.convnets:Bergmann"),
    "unet": Kind(f"{_PARTS}.convnets:UNet", {"base": 16, "levels": 4, "stem": 1, "skips": True}),
    "residual": Kind(f"{_PARTS}.convnets:Residual", {"base": 16, "blocks": 4}),
    "partial": Kind(f"{_PARTS}.partial:PartialUNet", {"base": 16, "levels": 4}),
    "structure": Kind(f"{_PARTS}.structure:StructureNet", {"base": 16, "levels": 4}),
    "transformer": Kind(
        f"{_PARTS}.inpaint:InpaintingTransformer", {"base": 128, "blocks": 6, "patch": 16, "heads": 4, "window": 7}
    ),
}
"""Made by ``Class(image_size, norm=..., **takes)``."""

MASKINGS: Mapping[str, Kind] = {
    "none": Kind(f"{_PARTS}.masks:Masking"),
    "disjoint": Kind(f"{_PARTS}.masks:Disjoint", {"cells": ("4", "8", "16"), "sets": 3}),
    "stripes": Kind(f"{_PARTS}.hiding:Stripes", {"cells": ("8", "16", "32")}),
    "windows": Kind(f"{_PARTS}.hiding:Windows", {"cells": ("64",), "sets": 4}),
    "superpixels": Kind(f"{_PARTS}.hiding:Superpixels", {"superpixels": "soft", "grid": 8}),
    "puzzle": Kind(f"{_PARTS}.hiding:Puzzle", {"orders": 4}),
}
"""Made by ``Class(image_size, seed, **takes)``."""

NECKS: Mapping[str, Kind] = {
    "none": Kind(f"{_PARTS}.necks:Neck"),
    "vector": Kind(f"{_PARTS}.necks:Vector", {"vector": 100}),
    "vae": Kind(f"{_PARTS}.necks:Vae", {"vector": 100, "beta": 1.0}),
    "wae": Kind(f"{_PARTS}.wae:Wae", {"vector": 32, "match": 1.0}),
    "memory": Kind(f"{_PARTS}.necks:Memory", {"rows": 200, "temperature": 10.0, "shrink": 1.0, "entropy": 2e-4}),
    "convex": Kind(f"{_PARTS}.necks:Convex", {"vector": 64, "rows": 50, "projection": 0.1}),
    "prototypes": Kind(f"{_PARTS}.necks:Prototypes", {"rows": 10, "compact": 0.01, "separate": 0.01}),
}
"""Made by ``Class(channels, grid, values, **takes)``."""

PARTS: Mapping[str, Mapping[str, Kind]] = {"network": NETWORKS, "masking": MASKINGS, "neck": NECKS}
"""Each by the option that chooses it."""
