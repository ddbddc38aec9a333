"""Options of families that are trained on frozen features of a published backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.families.options import Options, option
from edgead.models.usual import MAX_ROWS, SCORES, TRAINED
from edgead.published import DEFAULT, PUBLISHED

KINDS = "kind of patch features: own_cell, quiet_border, or paper as before 30 November 2026"


FINE_LAYERS: Mapping[str, tuple[str, ...]] = {
    "efficientnet_lite0": ("blocks.2", "blocks.4", "blocks.10"),
    "efficientnet_lite1": ("blocks.3", "blocks.6", "blocks.14"),
    "efficientnet_lite2": ("blocks.3", "blocks.6", "blocks.14"),
    "resnet18": ("layer1", "layer2", "layer3"),
    "wide_resnet50_2": ("layer1", "layer2", "layer3"),
}
"""Layers from a stride of 4 px on, for methods that take three; of a vision transformer its usual ones."""


def score_option(default: str = "max") -> Any:
    """Which cells make the score (:func:`edgead.models.parts.scores.reduced`)."""
    return option(
        default, "what the score is of the map: its worst cell, its mean, or the mean of its worst hundredth", choices=SCORES
    )


@dataclass(frozen=True, slots=True)
class BackboneOptions(Options):
    """Which frozen features a method looks at."""

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


@dataclass(frozen=True, slots=True)
class PatchOptions(BackboneOptions):
    """What of :mod:`edgead.models.rows` can be chosen."""

    features: str = option(TRAINED, KINDS, metavar="KIND", rare=True)
    max_rows: int = option(
        MAX_ROWS, "patches that are collected at most; of more some are drawn at random", metavar="N", least=1, rare=True
    )
