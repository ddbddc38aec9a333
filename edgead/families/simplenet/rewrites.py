"""The rewrite of SimpleNet (docs/rewrites.md)."""

from __future__ import annotations

from torch import nn

from edgead.families.simplenet.network import SimpleNet
from edgead.models.detector import Detector
from edgead.models.patches import LinearFeatures, PatchFeatures
from edgead.models.rewrites import Material, Rewrite, Setting
from edgead.models.rewrites.settings import flag


def _split(detector: Detector, setting: Setting, material: Material) -> Detector | None:
    """The hidden layer on each backbone layer at its own resolution."""
    if not isinstance(detector, SimpleNet) or "split" in detector.config:
        return None
    features, hidden = detector.features, detector.hidden
    assert isinstance(features, PatchFeatures) and isinstance(hidden, nn.Conv2d) and hidden.bias is not None
    made = SimpleNet({**detector.config, "split": True}, detector.image_size, features.backbone)
    made.features = LinearFeatures.of(features, hidden.weight.flatten(1), hidden.bias)
    made.to_model_size, made.anomaly = detector.to_model_size, detector.anomaly
    return made


REWRITES: tuple[Rewrite, ...] = (
    Rewrite("split", True, "multiply each backbone layer at its own resolution", flag, _split, default=True),
)
