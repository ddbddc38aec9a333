"""Patchcore in checkpoints of anomalib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgead.errors import BadInput
from edgead.families.patchcore.network import PatchCore
from edgead.importers.anomalib.reading import State, backbone_of, normalization, px, value_of
from edgead.importers.model import ImportOptions
from edgead.importers.steps import shown
from edgead.importers.transforms import Followed
from edgead.importers.weights import TIMM_LITE, backbone_with, from_timm_lite
from edgead.models.detector import Detector
from edgead.models.patches import build_features
from edgead.models.separable import blur_matrix

MARK, TITLE, NORMALIZED = "memory_bank", "Patchcore", True

SMOOTH = {"upsample": "nearest", "sigma": 4.0, "radius": 16, "border": "reflect"}


def build(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    """The detector of a checkpoint's weights and hyperparameters, and what it is in a few words. Raises BadInput."""
    name, layers = backbone_of(hyper, options, assumptions)
    bank = state["memory_bank"].float()
    if bank.ndim != 2 or not len(bank):
        raise BadInput("the file's memory bank is empty", hint="save the checkpoint after training has ended")
    prefix = "feature_extractor.feature_extractor."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if name in TIMM_LITE:
        name, layers = from_timm_lite(name, layers)
    backbone = backbone_with(name, layers, weights)
    extra = {"features": {"kind": "zero_border"}, "map": SMOOTH, **normalization(followed, backbone)}
    features = build_features({"backbone": name, "layers": list(layers), **extra}, backbone)
    if features.channels != bank.shape[1]:
        raise BadInput(
            f"the bank has {bank.shape[1]} channels, layers {', '.join(layers)} of {name} have {features.channels}",
            hint="give the layers it was trained with: --layers",
        )
    _check_blur(state, assumptions)
    neighbours = hyper.get("num_neighbors", 9)
    if type(neighbours) is not int or neighbours < 1:
        raise BadInput(f"the file tells num_neighbors {shown(neighbours)}, not a number from 1 up", hint="it is damaged")
    if value_of(hyper.get("precision", "float32")) not in ("float32", None):
        assumptions.append("trained in half precision; computed in float32")
    detector = PatchCore.from_bank(features, bank, neighbours, followed.size, extra)
    return detector, f"Patchcore, {name} {'+'.join(layers)}, {len(bank)} rows, {px(followed.size)}"


def _check_blur(state: State, assumptions: list[str]) -> None:
    kernel = state.get("anomaly_map_generator.blur.kernel")
    if kernel is None:
        assumptions.append("the file has no blur kernel: sigma 4 assumed")
        return
    radius = int(SMOOTH["radius"])  # type: ignore[call-overload]
    line = blur_matrix(4 * radius + 3, float(SMOOTH["sigma"]), radius, "reflect")[2 * radius + 1]  # type: ignore[arg-type]
    line = line[radius + 1 : 3 * radius + 2]
    shape = (1, 1, len(line), len(line))
    if tuple(kernel.shape) != shape or not torch.allclose(kernel[0, 0], torch.outer(line, line), atol=1e-3):
        raise BadInput(
            "the file smooths its map with another kernel than sigma 4", hint="please report it with the anomalib version"
        )
