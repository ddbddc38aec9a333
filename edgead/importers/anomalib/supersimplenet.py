"""Supersimplenet in checkpoints of anomalib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.families.supersimplenet.network import SuperSimpleNet
from edgead.importers.anomalib.reading import State, backbone_of, load, normalization, px
from edgead.importers.model import ImportOptions
from edgead.importers.transforms import Followed
from edgead.importers.weights import backbone_with, fold_norm
from edgead.models.detector import Detector

MARK, TITLE, NORMALIZED = "segdec.cls_fc.weight", "Supersimplenet", True


def build(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    """The detector of a checkpoint's weights and hyperparameters, and what it is in a few words. Raises BadInput."""
    name, layers = backbone_of(hyper, options, assumptions)
    if "adapt_cls_features" not in hyper:
        assumptions.append("the file does not tell adapt_cls_features: true assumed, as in the versions without that setting")
    prefix = "feature_extractor.feature_extractor.feature_extractor."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    backbone = backbone_with(name, layers, weights)
    config = {
        "backbone": name, "layers": list(layers), "channels": int(state["adaptor.projection.weight"].shape[0]),
        "adapt_score": bool(hyper.get("adapt_cls_features", True)), "features": {"kind": "doubled"},
        "map": {"upsample": "bilinear", "sigma": 4.0, "radius": 12, "border": "reflect"}, **normalization(followed, backbone),
    }  # fmt: skip
    detector = SuperSimpleNet(config, followed.size, backbone)
    heads = {
        **{f"adaptor.{k}": state[f"adaptor.projection.{k}"] for k in ("weight", "bias")},
        **fold_norm(state, "segdec.seg_head.0", "segdec.seg_head.1", "hidden"),
        "anomaly.weight": state["segdec.seg_head.3.weight"],
        **fold_norm(state, "segdec.cls_conv.0", "segdec.cls_conv.1", "context"),
        **{f"verdict.{k}": state[f"segdec.cls_fc.{k}"] for k in ("weight", "bias")},
    }
    features = {f"features.{k}": v for k, v in detector.features.state_dict().items()}
    load(detector, {**features, **heads})
    return detector, f"Supersimplenet, {name} {'+'.join(layers)}, {px(followed.size)}"
