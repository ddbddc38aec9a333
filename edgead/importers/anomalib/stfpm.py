"""Stfpm in checkpoints of anomalib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.families.distillation.network import Distillation
from edgead.importers.anomalib.reading import State, backbone_of, normalization, px
from edgead.importers.model import ImportOptions
from edgead.importers.transforms import Followed
from edgead.importers.weights import TIMM_LITE, backbone_with, from_timm_lite
from edgead.models.detector import Detector

MARK, TITLE, NORMALIZED = "student_model.feature_extractor.", "Stfpm", True

USUAL = ("resnet18", ("layer1", "layer2", "layer3"))


def build(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    """The detector of a checkpoint's weights and hyperparameters, and what it is in a few words. Raises BadInput."""
    name, layers = backbone_of(hyper, options, assumptions, USUAL)
    told = f"Stfpm, {name} {'+'.join(layers)}, {px(followed.size)}"
    if name in TIMM_LITE:
        name, layers = from_timm_lite(name, layers)
    teacher, student = (
        backbone_with(name, layers, _part(state, f"{one}_model.feature_extractor.")) for one in ("teacher", "student")
    )
    config = {
        "backbone": name, "layers": list(layers), "rebuilder": {"kind": "twin"}, "combine": "product",
        "picture": {"corners": False, "sigma": 0.0, "radius": 0}, **normalization(followed, teacher),
    }  # fmt: skip
    detector = Distillation(config, followed.size, teacher)
    detector.rebuilder.network.load_state_dict(student.state_dict())  # type: ignore[union-attr]
    return detector, told


def _part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
