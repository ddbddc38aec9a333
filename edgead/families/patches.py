"""Options of families that are trained on frozen patch features of a published backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgead.families.options import Options, option
from edgead.models.usual import MAX_ROWS, TRAINED
from edgead.published import DEFAULT, PUBLISHED

KINDS = "kind of patch features: own_cell, quiet_border, or paper as before 30 November 2026"


@dataclass(frozen=True, slots=True)
class PatchOptions(Options):
    """What of :mod:`edgead.models.rows` can be chosen."""

    backbone: str = option(
        DEFAULT,
        f"network that describes patches: {DEFAULT}, {', '.join(name for name in PUBLISHED if name != DEFAULT)}",
        metavar="NAME",
    )
    layers: tuple[str, ...] | None = option(
        None,
        "its layers that are taken, e.g. blocks.4,blocks.10, layer2,layer3 or, of a transformer, blocks.11",
        metavar="A,B",
        usual="the backbone's usual ones",
    )
    weights: Path | None = option(
        None, "weights of the backbone", metavar="FILE", usual="as edgead weights list shows, or fetched"
    )
    features: str = option(TRAINED, KINDS, metavar="KIND", rare=True)
    max_rows: int = option(
        MAX_ROWS, "patches that are collected at most; of more some are drawn at random", metavar="N", least=1, rare=True
    )
